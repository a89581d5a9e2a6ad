import { randomUUID } from "node:crypto";
import { placeOf, requireCluster } from "./cluster-place.ts";
import { eventOperation } from "./events.ts";
import { keptChanging } from "./kept-changing.ts";
import { keys } from "./keys.ts";
import { decode, encode, type IncarnationRecord, incarnationSchema } from "./model.ts";
import * as z from "./record-schema.ts";
import type { CallOptions, Compare, Entry, Operation, Revision, Store } from "./store.ts";

/**
 * What happens after the store may have lost acknowledged writes (a failover, a restart without its newest data, a
 * backup): nodes own what it no longer knows, and nothing must be given out until they have said so.
 *
 * 1. `incarnation` names the stretch of the store's history that is running. Whoever finds that the server is not the
 *    one it was begins another one, with `recovering` set, by compare and swap.
 * 2. A claim compares that record, and it is kept only if the server is still the same after it (G1).
 * 3. While `recovering` is set, nodes assert again what they own; nothing is claimed, fenced or freed.
 * 4. Whoever has watched that for the whole window ends it, by compare and swap.
 */
export interface Incarnation extends IncarnationRecord {
  /** True only as long as this stretch lasts, and its `recovering` is as it is here. */
  readonly holds: Compare;
}

/** What was read in one transaction, on a server that was the same afterwards. */
export interface Look {
  readonly config: Entry;
  readonly incarnation: Incarnation;
  /** What the server said of itself. */
  readonly server: string;
  readonly revision: Revision;
  /** The further keys that were asked for, in their order. */
  readonly reads: readonly (Entry | undefined)[];
}

export interface LookOptions extends CallOptions {
  /** The cluster that the caller belongs to. A store that has lost it, or holds another one, is refused. */
  readonly clusterUID?: string | undefined;
}

export interface RecoveryOptions {
  readonly now?: (() => Date) | undefined;
  /** Milliseconds that only grow, by which the window is measured; default `performance.now`. */
  readonly monotonic?: (() => number) | undefined;
}

const rounds = 8;
const windowSchema = z.looseObject({ recoveryMs: z.int().positive().default(60_000) });

/** One observer of a store's incarnation. Looking again and again also ends the window in time. */
export class Recovery {
  readonly #store: Store;
  readonly #now: () => Date;
  readonly #monotonic: () => number;
  /** What the server last said of itself when that was in order. */
  #known: string | undefined;
  /** The window that is being watched, without a gap, since when. */
  #watched: { readonly id: string; readonly since: number; last: number } | undefined;

  constructor(store: Store, options: RecoveryOptions = {}) {
    this.#store = store;
    this.#now = options.now ?? (() => new Date());
    this.#monotonic = options.monotonic ?? (() => performance.now());
  }

  /**
   * Reads `config`, `incarnation` and further keys. Begins a new incarnation where the server is not the one it was,
   * and ends its window where that is due. @throws {NotFoundError} when there is no cluster, {@link ConflictError} when
   * it is not `clusterUID`.
   */
  async look(more: readonly string[] = [], options: LookOptions = {}): Promise<Look> {
    try {
      for (let round = 1; round <= rounds; round++) {
        const found = await this.#look(more, options);
        if (found) return found;
      }
    } catch (error) {
      // Nodes may not have been heard either while it was away.
      this.#watched = undefined;
      throw error;
    }
    throw keptChanging(`${keys.incarnation} in ${this.#store.label}`, "it was read");
  }

  /** Whether the last answer came from the server of that look: what it says was written is not in a lost past. */
  async unchanged({ server }: Look, { signal, timeoutMs }: CallOptions = {}): Promise<boolean> {
    return (await this.#store.incarnation({ signal, timeoutMs, fromLastAnswer: true })) === server;
  }

  /** Undefined when the record had to be changed. */
  async #look(more: readonly string[], options: LookOptions): Promise<Look | undefined> {
    const { clusterUID, ...call } = options;
    const gets = [keys.config, keys.incarnation, ...more].map((key) => ({ get: key }));
    const { reads, revision } = await this.#store.txn({ then: gets }, call);
    // The reads' own server, or a later one: one that has changed since the reads is not missed.
    const current = await this.#store.incarnation({ ...call, fromLastAnswer: true });
    const [first, entry, ...rest] = reads;
    const config = requireCluster(first, this.#store.label, clusterUID);
    const record = entry && decode(incarnationSchema, entry);
    const answer = (incarnation: IncarnationRecord): Look => ({
      config,
      incarnation: {
        ...incarnation,
        holds: entry
          ? { key: keys.incarnation, value: entry.value }
          : { key: keys.incarnation, exists: false },
      },
      server: current,
      revision,
      reads: rest,
    });
    if (placeOf(config).state !== "here") {
      return answer(record ?? { id: "", current, recovering: true, since: this.#now().toISOString() });
    }
    const windowMs = () => decode(windowSchema, config).recoveryMs;
    if (!record || !this.#isSame(record, current)) {
      const next = newIncarnation(current, { recovering: true, now: this.#now() });
      const message = `${this.#store.label} may have lost writes: for ${windowMs() / 1_000} s nodes say again what they own, and new ones wait`;
      await this.#replace(entry, next, ["store-recovering", message], revision, call);
      return undefined;
    }
    this.#known = current;
    if (!record.recovering || !this.#isOver(record, windowMs())) return answer(record);
    const message = `new nodes get subnets again; ${this.#store.label} had been recovering since ${record.since}`;
    await this.#replace(
      entry,
      { ...record, recovering: false },
      ["store-recovered", message],
      revision,
      call,
    );
    return undefined;
  }

  /**
   * The server's word differs between observers where it counts what each of them has seen lost. Then one that was in
   * order stays so for whoever knows it, whatever another observer has written; or they would never agree.
   */
  #isSame(record: IncarnationRecord, current: string): boolean {
    return current === record.current || current === this.#known;
  }

  #isOver({ id }: IncarnationRecord, windowMs: number): boolean {
    const now = this.#monotonic();
    if (this.#watched?.id !== id || now - this.#watched.last >= windowMs) {
      this.#watched = { id, since: now, last: now };
    }
    this.#watched.last = now;
    return now - this.#watched.since >= windowMs;
  }

  async #replace(
    entry: Entry | undefined,
    next: IncarnationRecord,
    [type, message]: readonly [type: string, message: string],
    revision: Revision,
    options: CallOptions,
  ): Promise<void> {
    const unchanged: Compare = entry
      ? { key: keys.incarnation, value: entry.value }
      : { key: keys.incarnation, exists: false };
    await this.#store.txn(
      {
        if: [{ key: keys.config, exists: true }, unchanged],
        then: [
          putIncarnation(next),
          eventOperation(revision, { time: this.#now().toISOString(), type, message }),
        ],
      },
      options,
    );
  }
}

export function newIncarnation(
  current: string,
  { recovering, now }: { readonly recovering: boolean; readonly now: Date },
): IncarnationRecord {
  return { id: randomUUID(), current, recovering, since: now.toISOString() };
}

export function putIncarnation(record: IncarnationRecord): Operation {
  return { put: keys.incarnation, value: encode(record) };
}
