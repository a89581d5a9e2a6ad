import {
  type ClusterConfig,
  clusterConfigSchema,
  decode,
  type Entry,
  type IncarnationRecord,
  type IntentHead,
  incarnationSchema,
  intentHeadSchema,
  keys,
  type MovedRecord,
  movedSchema,
  type NodeRecord,
  nodeSchema,
  prefixes,
  type QuarantineRecord,
  quarantineSchema,
  type Revision,
  type Store,
  type WatchBatch,
} from "@cocoon-net/core";
import type { NodeView } from "./detection.ts";

/** One record as it was seen last. */
export interface Seen<T> {
  readonly value: T;
  readonly entry: Entry;
}

/** Who is told of what the store shows. */
export interface StateListeners {
  problem(error: unknown): void;
  /** A change of the leader's proof has come by the watch, with its revision. */
  proof(revision: Revision): void;
  /** Something has changed that decisions hang on. */
  news(): void;
}

/** One prefix of the store, kept up to date in memory and decoded once per change. */
class Table<T> {
  readonly rows = new Map<string, Seen<T>>();
  readonly prefix: string;
  readonly #read: (entry: Entry) => T;
  readonly #on: StateListeners;
  readonly #isNews: (before: T | undefined, now: T | undefined) => boolean;

  /** `isNews`: whether that change of a row is one to look at. */
  constructor(
    prefix: string,
    read: (entry: Entry) => T,
    on: StateListeners,
    isNews: (before: T | undefined, now: T | undefined) => boolean = () => true,
  ) {
    this.prefix = prefix;
    this.#read = read;
    this.#on = on;
    this.#isNews = isNews;
  }

  apply(batch: WatchBatch): void {
    if (batch.type === "snapshot") {
      this.rows.clear();
      for (const entry of batch.entries) this.#put(entry);
      this.#on.news();
      return;
    }
    let news = false;
    for (const change of batch.changes) {
      const name = (change.type === "put" ? change.entry.key : change.key).slice(this.prefix.length);
      const before = this.rows.get(name)?.value;
      if (change.type === "put") this.#put(change.entry);
      else this.rows.delete(name);
      news ||= this.#isNews(before, this.rows.get(name)?.value);
    }
    if (news) this.#on.news();
  }

  #put(entry: Entry): void {
    const name = entry.key.slice(this.prefix.length);
    try {
      this.rows.set(name, { value: this.#read(entry), entry });
    } catch (error) {
      // G8: a record that cannot be read is no ground to do anything about what it describes.
      this.rows.delete(name);
      this.#on.problem(error);
    }
  }
}

/**
 * The cluster as this leader sees it: everything it decides upon, loaded whole before anything is decided and then
 * followed. It may lag; whatever is decided from it is compared again in the transaction that acts.
 */
export class ClusterState {
  readonly #config: Table<ClusterConfig>;
  readonly #incarnation: Table<IncarnationRecord>;
  readonly #pause: Table<true>;
  readonly #proof: Table<true>;
  readonly #nodes: Table<NodeRecord>;
  readonly #subnets: Table<string>;
  readonly #alive: Table<true>;
  readonly #moved: Table<MovedRecord>;
  readonly #quarantine: Table<QuarantineRecord>;
  readonly #intents: Table<IntentHead>;

  constructor(on: StateListeners) {
    this.#config = new Table(keys.config, (entry) => decode(clusterConfigSchema, entry), on);
    this.#incarnation = new Table(keys.incarnation, (entry) => decode(incarnationSchema, entry), on);
    const seen = (entry: Entry): true => {
      on.proof(entry.modRevision);
      return true;
    };
    this.#proof = new Table(keys.controller, seen, on, () => false);
    this.#pause = new Table(keys.pause, () => true, on);
    // Agents rewrite their records now and then, and jobs their notes.
    this.#nodes = new Table(
      prefixes.nodes,
      (entry) => decode(nodeSchema, entry),
      on,
      (before, now) => before?.status !== now?.status,
    );
    this.#subnets = new Table(prefixes.subnets, (entry) => JSON.parse(entry.value) as string, on);
    this.#alive = new Table(prefixes.alive, () => true, on);
    this.#moved = new Table(prefixes.moved, (entry) => decode(movedSchema, entry), on);
    this.#quarantine = new Table(prefixes.quarantine, (entry) => decode(quarantineSchema, entry), on);
    this.#intents = new Table(
      prefixes.intents,
      (entry) => decode(intentHeadSchema, entry),
      on,
      (before, now) => before?.step !== now?.step || before?.kind !== now?.kind,
    );
  }

  /** Undefined until the cluster is initialized. */
  get config(): ClusterConfig | undefined {
    return this.#config.rows.get("")?.value;
  }

  /** The store may have lost who owns what: nodes are saying it again, and nothing is taken from any of them (G8). */
  get recovering(): boolean {
    return this.#incarnation.rows.get("")?.value.recovering ?? true;
  }

  /** An operator has stopped everything that frees. */
  get paused(): boolean {
    return this.#pause.rows.has("");
  }

  /** By address. */
  get moved(): ReadonlyMap<string, Seen<MovedRecord>> {
    return this.#moved.rows;
  }

  get quarantine(): ReadonlyMap<string, Seen<QuarantineRecord>> {
    return this.#quarantine.rows;
  }

  /** By id. */
  get intents(): ReadonlyMap<string, Seen<IntentHead>> {
    return this.#intents.rows;
  }

  /** Every node that owns a subnet and has a record. */
  *owners(): Generator<NodeView, void, void> {
    for (const [node, subnet] of this.#subnets.rows) {
      const record = this.#nodes.rows.get(node);
      if (!record) continue;
      yield {
        node,
        record: record.value,
        revision: record.entry.modRevision,
        epoch: subnet.entry.modRevision,
        subnet: subnet.value,
        alive: this.#alive.rows.has(node),
      };
    }
  }

  /** Follows the store until the signal aborts; `onLoaded` is called once, when everything has been read. */
  async follow(store: Store, signal: AbortSignal, onLoaded: () => void): Promise<void> {
    const tables: readonly Pick<Table<unknown>, "prefix" | "apply">[] = [
      this.#config,
      this.#incarnation,
      this.#pause,
      this.#proof,
      this.#nodes,
      this.#subnets,
      this.#alive,
      this.#moved,
      this.#quarantine,
      this.#intents,
    ];
    let missing = tables.length;
    await Promise.all(
      tables.map(async (table) => {
        let first = true;
        for await (const batch of store.watch(table.prefix, { signal })) {
          table.apply(batch);
          if (first && --missing === 0) onLoaded();
          first = false;
        }
        signal.throwIfAborted();
        throw new Error(`the watch of ${table.prefix} in ${store.label} ended by itself`);
      }),
    );
  }
}
