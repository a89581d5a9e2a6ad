import { randomUUID } from "node:crypto";
import { encodeFormerEpochs, formerEpochs, placeOf } from "./cluster-place.ts";
import { ConflictError } from "./errors.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import { encode } from "./model.ts";
import { batches, inParallel, patiently, putConfig } from "./patient-writes.ts";
import { newIncarnation, putIncarnation } from "./recovery.ts";
import type { Change, Compare, Entry, Operation, Revision, Store } from "./store.ts";

/** The fields of a cluster's `config` as they stand, those of a newer version included. */
export type RawConfig = Readonly<Record<string, unknown>> & { readonly clusterUID: string };

export interface CopyOrigin {
  /** Where it comes from, for messages and for the record. */
  readonly label: string;
  readonly config: RawConfig;
}

export interface CopyCounts {
  readonly written: number;
  readonly removed: number;
}

/** A node's ownership there, and the epochs by which it has been known, that one included. */
type Claim = readonly [claim: Entry, former: readonly Revision[]];

interface Difference {
  readonly claims: readonly Claim[];
  readonly deletes: readonly string[];
  /** What else is to be written, by the epochs that are known when it is called. */
  puts(): readonly Entry[];
}

type Progress = (done: number, total: number) => void;

/** A batch is bigger than what a node writes; the server gets more time for it. */
const batchTimeoutMs = 10_000;
/**
 * Whether a copy takes this key along. What hangs on a session, the leader's proof that it can write, and the store's
 * incarnation say something about the other store only; `config` and the epochs are written by the copy itself.
 */
export function isCopied(key: string): boolean {
  return (
    ![keys.config, keys.incarnation, keys.leader, keys.controller].includes(key) &&
    !key.startsWith(prefixes.alive) &&
    !key.startsWith(prefixes.epochs)
  );
}

/**
 * The store that a cluster is copied into. Until {@link commission} its `config` says "incoming", so that nobody
 * uses it; every write compares that record's revision, so that of two copies into one store only the newer goes on.
 */
export class CopyTarget {
  /** Names this pair of stores, also when the copy is run again. */
  readonly id: string;
  readonly #store: Store;
  readonly #origin: CopyOrigin;
  readonly #fence: Compare & { readonly modRevision: Revision };
  readonly #signal: AbortSignal | undefined;
  readonly #now: () => Date;
  /** By node: the epoch there, and here. */
  readonly #epochs = new Map<string, { readonly there: Revision; readonly here: Revision }>();

  private constructor(
    store: Store,
    origin: CopyOrigin,
    id: string,
    revision: Revision,
    options: { readonly signal?: AbortSignal | undefined; readonly now: () => Date },
  ) {
    this.#store = store;
    this.#origin = origin;
    this.id = id;
    this.#fence = { key: keys.config, modRevision: revision };
    this.#signal = options.signal;
    this.#now = options.now;
  }

  /**
   * Takes the store, which must be empty, or hold the same cluster without being in use: a copy that was stopped, or
   * a cluster that has moved on and now comes back. @throws {ConflictError} otherwise.
   */
  static async open(
    store: Store,
    origin: CopyOrigin,
    options: { readonly signal?: AbortSignal | undefined; readonly now?: () => Date } = {},
  ): Promise<CopyTarget> {
    const { signal, now = () => new Date() } = options;
    const { entry } = await store.get(keys.config, { signal });
    const place = entry && placeOf(entry);
    if (!place) await requireEmpty(store, signal);
    else if (place.clusterUID !== origin.config.clusterUID) {
      throw new ConflictError(
        `${store.label} holds another cluster (${place.clusterUID}, not ${origin.config.clusterUID})`,
        { hint: "name another prefix in the URL" },
      );
    } else if (place.state === "here") {
      throw new ConflictError(`${store.label} holds this cluster already, and it is in use there`, {
        hint: "nothing was changed",
      });
    }
    const id = (place?.state === "incoming" && place.transfer?.id) || randomUUID();
    const config = {
      ...withoutTransfers(origin.config),
      schema: "incoming",
      // The attempt makes each value its writer's own, so that a lost answer can be told from a rival.
      copied: { id, store: origin.label, time: now().toISOString(), attempt: randomUUID() },
    };
    const free: Compare = entry
      ? { key: keys.config, modRevision: entry.modRevision }
      : { key: keys.config, exists: false };
    const revision = await putConfig(store, free, encode(config), { signal });
    if (revision === undefined) {
      throw new ConflictError(`${store.label} was taken by somebody else meanwhile`, { hint: "look again" });
    }
    return new CopyTarget(store, origin, id, revision, { signal, now });
  }

  /** Makes the store equal to a whole cluster. `entries` may be in any order. */
  async reconcile(entries: readonly Entry[], onProgress: Progress = () => {}): Promise<CopyCounts> {
    const difference = await this.#difference(entries);
    const { claims, deletes } = difference;
    const total = claims.length + difference.puts().length + deletes.length;
    let done = 0;
    const pairs = Math.floor(this.#store.capabilities.maxOperations / 2);
    await inParallel(batches(claims, pairs), async (batch) => {
      await this.#claim(batch);
      done += batch.length;
      onProgress(done, total);
    });
    // Only now is it known which epochs the intents are to name.
    const puts = difference.puts();
    const operations = [...puts.map((entry) => this.#put(entry)), ...deletes.map((key) => ({ delete: key }))];
    await inParallel(batches(operations, this.#store.capabilities.maxOperations), async (batch) => {
      await this.#write(batch);
      done += batch.length;
      onProgress(Math.min(done, total), total);
    });
    return { written: claims.length + puts.length, removed: deletes.length };
  }

  /** Repeats the changes of one transaction. */
  async apply(changes: readonly Change[]): Promise<CopyCounts> {
    const operations: Operation[] = [];
    let [written, removed] = [0, 0];
    for (const change of changes) {
      const key = change.type === "put" ? change.entry.key : change.key;
      if (!isCopied(key)) continue;
      const node = nodeOf(key);
      if (change.type === "delete") {
        removed++;
        operations.push({ delete: key });
        if (node !== undefined) operations.push({ delete: keys.epochs(node) });
        if (node !== undefined) this.#epochs.delete(node);
      } else {
        written++;
        if (node !== undefined) await this.#claim([[change.entry, [change.entry.modRevision]]]);
        else operations.push(this.#put(change.entry));
      }
    }
    for (const batch of batches(operations, this.#store.capabilities.maxOperations)) await this.#write(batch);
    return { written, removed };
  }

  /** The keys that are not as they should be for `entries`: none when the copy is whole. */
  async differing(entries: readonly Entry[]): Promise<string[]> {
    const { claims, puts, deletes } = await this.#difference(entries);
    return [...claims.map(([claim]) => claim.key), ...puts().map((entry) => entry.key), ...deletes];
  }

  /** Leaves a store that was empty as it was. */
  async withdraw(): Promise<void> {
    await this.#write([{ delete: keys.config }]);
  }

  /**
   * Opens the store for use: its nodes are known, their epochs stand, and only now there is a `config`. Unless the copy
   * is `whole`, nothing of what its source ever acknowledged missing, the store begins with a recovery window.
   */
  async commission(options: { readonly whole?: boolean } = {}): Promise<void> {
    const current = await patiently(this.#signal, () => this.#store.incarnation({ signal: this.#signal }));
    const incarnation = newIncarnation(current, { recovering: options.whole !== true, now: this.#now() });
    const config = {
      ...withoutTransfers(this.#origin.config),
      schema: 1,
      copied: { id: this.id, store: this.#origin.label, time: this.#now().toISOString() },
    };
    const done = await putConfig(this.#store, this.#fence, encode(config), {
      signal: this.#signal,
      then: [putIncarnation(incarnation)],
    });
    if (done === undefined) throw this.#displaced();
  }

  /** What has to be done; also learns the epochs of the claims that stand already. */
  async #difference(entries: readonly Entry[]): Promise<Difference> {
    const marks = new Map<string, Entry>();
    for (const entry of entries) if (entry.key.startsWith(prefixes.epochs)) marks.set(entry.key, entry);
    const present = new Map<string, Entry>();
    const options = { signal: this.#signal, timeoutMs: batchTimeoutMs };
    for (const entry of (await listAll(this.#store, "", options)).entries) present.set(entry.key, entry);
    const claims: Claim[] = [];
    const others: Entry[] = [];
    const wanted = new Set<string>();
    for (const entry of entries) {
      if (!isCopied(entry.key)) continue;
      wanted.add(entry.key);
      const node = nodeOf(entry.key);
      if (node === undefined) {
        others.push(entry);
        continue;
      }
      const mark = keys.epochs(node);
      wanted.add(mark);
      const former = [...formerEpochs(entry, marks.get(mark)), entry.modRevision];
      const found = present.get(entry.key);
      const stands =
        found?.value === entry.value && formerEpochs(found, present.get(mark)).join() === former.join();
      if (stands) this.#epochs.set(node, { there: entry.modRevision, here: found.modRevision });
      else claims.push([entry, former]);
    }
    const puts = (): Entry[] =>
      others.filter((entry) => present.get(entry.key)?.value !== this.#valueOf(entry));
    const deletes = [...present.keys()].filter(
      (key) => !wanted.has(key) && (isCopied(key) || key.startsWith(prefixes.epochs)),
    );
    return { claims, puts, deletes };
  }

  /** Ownerships, each in the same transaction as the epochs by which it was known before. */
  async #claim(claims: readonly Claim[]): Promise<void> {
    const here = await this.#write(
      claims.flatMap(([{ key, value }, former]) => [
        { put: key, value },
        { put: keys.epochs(nodeOf(key) ?? ""), value: encodeFormerEpochs(former) },
      ]),
    );
    for (const [{ key, modRevision }] of claims) {
      this.#epochs.set(nodeOf(key) ?? "", { there: modRevision, here });
    }
  }

  #put(entry: Entry): Operation {
    return { put: entry.key, value: this.#valueOf(entry) };
  }

  /**
   * A job of the controller may name the epoch of the ownership that it ends. Here that ownership has another; one
   * that no longer stands gets an epoch that no ownership has.
   */
  #valueOf(entry: Entry): string {
    if (!entry.key.startsWith(prefixes.intents)) return entry.value;
    let job: unknown;
    try {
      job = JSON.parse(entry.value);
    } catch {
      return entry.value;
    }
    if (!isJob(job)) return entry.value;
    const known = this.#epochs.get(job.node);
    return encode({ ...job, epoch: known?.there === job.epoch ? known.here : 0 });
  }

  /** Safe to run twice, so it is, for as long as the store is away. */
  async #write(operations: readonly Operation[]): Promise<Revision> {
    const options = { signal: this.#signal, timeoutMs: batchTimeoutMs };
    const { succeeded, revision } = await patiently(this.#signal, () =>
      this.#store.txn({ if: [this.#fence], then: operations }, options),
    );
    if (!succeeded) throw this.#displaced();
    return revision;
  }

  #displaced(): ConflictError {
    return new ConflictError(`another copy into ${this.#store.label} has taken over`, {
      hint: "only that one goes on; this one has stopped",
    });
  }
}

async function requireEmpty(store: Store, signal: AbortSignal | undefined): Promise<void> {
  const { entries } = await store.list("", { limit: 1, signal });
  if (entries[0] === undefined) return;
  throw new ConflictError(`${store.label} is not empty: it has ${entries[0].key}, and no cluster`, {
    hint: "name another prefix in the URL",
  });
}

function withoutTransfers(config: RawConfig): Record<string, unknown> {
  const { copied: _copied, moved: _moved, ...rest } = config;
  return rest;
}

/** The node whose claim this key is. */
function nodeOf(key: string): string | undefined {
  return key.startsWith(prefixes.subnets) ? key.slice(prefixes.subnets.length) : undefined;
}

function isJob(value: unknown): value is { readonly node: string; readonly epoch: Revision } {
  if (typeof value !== "object" || value === null) return false;
  return (
    "node" in value && typeof value.node === "string" && "epoch" in value && typeof value.epoch === "number"
  );
}
