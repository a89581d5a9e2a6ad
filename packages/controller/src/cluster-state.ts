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

/** One prefix of the store, kept up to date in memory and decoded once per change. */
class Table<T> {
  readonly rows = new Map<string, Seen<T>>();
  readonly prefix: string;
  readonly #read: (entry: Entry) => T;
  readonly #onProblem: (error: unknown) => void;

  constructor(prefix: string, read: (entry: Entry) => T, onProblem: (error: unknown) => void) {
    this.prefix = prefix;
    this.#read = read;
    this.#onProblem = onProblem;
  }

  apply(batch: WatchBatch): void {
    if (batch.type === "snapshot") {
      this.rows.clear();
      for (const entry of batch.entries) this.#put(entry);
      return;
    }
    for (const change of batch.changes) {
      if (change.type === "put") this.#put(change.entry);
      else this.rows.delete(change.key.slice(this.prefix.length));
    }
  }

  #put(entry: Entry): void {
    const name = entry.key.slice(this.prefix.length);
    try {
      this.rows.set(name, { value: this.#read(entry), entry });
    } catch (error) {
      // G8: a record that cannot be read is no ground to do anything about what it describes.
      this.rows.delete(name);
      this.#onProblem(error);
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

  /** `onProof`: a change of the leader's proof has come by the watch, with its revision. */
  constructor(onProblem: (error: unknown) => void, onProof: (revision: Revision) => void) {
    this.#config = new Table(keys.config, (entry) => decode(clusterConfigSchema, entry), onProblem);
    this.#incarnation = new Table(keys.incarnation, (entry) => decode(incarnationSchema, entry), onProblem);
    const seen = (entry: Entry): true => {
      onProof(entry.modRevision);
      return true;
    };
    this.#proof = new Table(keys.controller, seen, onProblem);
    this.#pause = new Table(keys.pause, () => true, onProblem);
    this.#nodes = new Table(prefixes.nodes, (entry) => decode(nodeSchema, entry), onProblem);
    this.#subnets = new Table(prefixes.subnets, (entry) => JSON.parse(entry.value) as string, onProblem);
    this.#alive = new Table(prefixes.alive, () => true, onProblem);
    this.#moved = new Table(prefixes.moved, (entry) => decode(movedSchema, entry), onProblem);
    this.#quarantine = new Table(prefixes.quarantine, (entry) => decode(quarantineSchema, entry), onProblem);
    this.#intents = new Table(prefixes.intents, (entry) => decode(intentHeadSchema, entry), onProblem);
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
