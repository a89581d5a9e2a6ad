import {
  acknowledgeMove,
  contains,
  decode,
  type Entry,
  keys,
  listAll,
  movedSchema,
  parseAddress,
  parseCidr,
  prefixes,
  type Store,
  UnavailableError,
} from "@cocoon-net/core";
import type { TestNode } from "./test-cluster.ts";

/** An agent's part in moves, and what it believes to serve. */
export class SimulatedAgent {
  /** Addresses of other subnets that it serves, and those of its own that it does not grant. */
  readonly served = new Set<string>();
  readonly frozen = new Set<string>();
  /** Says nothing to moves any more. */
  deaf = false;
  readonly #node: TestNode;
  readonly #store: Store;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  constructor(store: Store, node: TestNode) {
    this.#store = store;
    this.#node = node;
    this.#done = this.#follow();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  /** Reads every move once more, as after a reconnect. */
  async look(): Promise<void> {
    for (const entry of (await listAll(this.#store, prefixes.moved)).entries) await this.#act(entry);
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    try {
      for await (const batch of this.#store.watch(prefixes.moved, { signal })) {
        if (batch.type === "snapshot") for (const entry of batch.entries) await this.#act(entry);
        else {
          for (const change of batch.changes) {
            if (change.type === "put") await this.#act(change.entry);
            else this.#forget(change.key.slice(prefixes.moved.length));
          }
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  #forget(ip: string): void {
    this.served.delete(ip);
    this.frozen.delete(ip);
  }

  async #act(entry: Entry): Promise<void> {
    const { name, registration } = this.#node;
    const ip = entry.key.slice(prefixes.moved.length);
    const moved = decode(movedSchema, entry);
    if (contains(parseCidr(registration.subnet), parseAddress(ip))) this.frozen.add(ip);
    const isServed = moved.node === name && moved.uid === registration.uid;
    if (isServed && !this.frozen.has(ip)) this.served.add(ip);
    else this.served.delete(ip);
    const { move } = moved;
    if (!move || this.deaf || (move.from !== name && move.to !== name)) return;
    try {
      // A guest that is there keeps its address from going home.
      const { entry: lease } = await this.#store.get(keys.pool(ip));
      if (move.intent.startsWith("return") && lease) return;
      await acknowledgeMove(this.#store, registration, entry);
    } catch (error) {
      if (!(error instanceof UnavailableError)) return;
    }
  }
}
