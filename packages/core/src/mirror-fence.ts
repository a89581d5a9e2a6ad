import { ConflictError } from "./errors.ts";
import { keptChanging } from "./kept-changing.ts";
import { keys } from "./keys.ts";
import { encode } from "./model.ts";
import type { Registration } from "./registration.ts";
import type { CallOptions, Compare, Operation, Store } from "./store.ts";

const rounds = 8;

/**
 * What a mirror of leases compares beside the node's epoch: `acted/{node}`, the move that the node has last said it acts
 * by. Saying so changes it, in the same transaction, and no owner is swapped before that. So a mirror whose answer was
 * lost, and which lands only after a move, cannot give the address back to the node that it has left (G2).
 */
export class MirrorFence {
  readonly #key: string;
  /** Undefined until the store has said it. */
  #known: Compare | undefined;

  constructor(node: string) {
    this.#key = keys.acted(node);
  }

  /** This node has said so itself, and mirrors from now on what is true after it. */
  acted(intent: string): void {
    this.#known = { key: this.#key, value: encode(intent) };
  }

  /** @throws {ConflictError} when the node acts by a move that this process did not know of */
  async write(
    store: Store,
    registration: Pick<Registration, "node" | "epoch" | "fence" | "confirm">,
    operations: readonly Operation[],
    options?: CallOptions,
  ): Promise<void> {
    const { node } = registration;
    const absent: Compare = { key: this.#key, exists: false };
    for (let attempt = 1; attempt <= rounds; attempt++) {
      const compare = this.#known ?? absent;
      const { succeeded, reads } = await store.txn(
        {
          // G2, G3
          if: [registration.fence, compare],
          then: operations,
          else: [{ get: keys.subnet(node) }, { get: this.#key }],
        },
        options,
      );
      if (succeeded) {
        this.#known ??= compare;
        return;
      }
      const [claim, mark] = reads;
      if (claim?.modRevision !== registration.epoch) {
        await registration.confirm(options);
        continue;
      }
      const isNews = this.#known !== undefined;
      this.#known = mark ? { key: this.#key, value: mark.value } : absent;
      if (isNews) {
        throw new ConflictError(
          `leases of ${node} were not mirrored: it has said meanwhile that it acts by a move`,
          {
            hint: "mirror what it serves now",
          },
        );
      }
    }
    throw keptChanging(keys.subnet(node), "leases were mirrored under it");
  }
}
