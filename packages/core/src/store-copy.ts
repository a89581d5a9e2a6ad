import { pause } from "./backoff.ts";
import { type ClusterPlace, placeOf } from "./cluster-place.ts";
import { type CopyCounts, CopyTarget, type RawConfig } from "./copy-target.ts";
import { ConflictError, CorruptError, InvalidError, NotFoundError, UnavailableError } from "./errors.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import { decode, encode, incarnationSchema } from "./model.ts";
import { patiently, putConfig } from "./patient-writes.ts";
import * as z from "./record-schema.ts";
import type { Entry, Revision, Store, WatchBatch } from "./store.ts";

export interface CopyOptions {
  readonly signal?: AbortSignal | undefined;
  /** Copy although agents and controllers are at work; they go on, and follow when they are given the new URL. */
  readonly live?: boolean;
  /** Read both sides again before the target is opened for use, and refuse when they differ. */
  readonly verify?: boolean;
  readonly onProgress?: (progress: CopyProgress) => void;
  readonly now?: () => Date;
}

/**
 * `copying`: `done` of `total` records are written. `following`: `done` changes that were made meanwhile have been
 * repeated. `verifying`: both sides are being read again; `done` records there.
 */
export interface CopyProgress {
  readonly stage: "copying" | "following" | "verifying";
  readonly done: number;
  readonly total: number | undefined;
}

export interface CopyResult extends CopyCounts {
  readonly clusterUID: string;
  /** Records that differ because they were written at the source after it was left; their nodes write them again. */
  readonly overtaken: number;
}

/** A store that is asked for all it has, or for a change that must come, and yields nothing for so long, is away. */
const silenceMs = 60_000;
/** When no change has come for so long, the copy has caught up. */
const quietMs = 100;
/** Or when it is so few revisions behind that the rest takes no time. */
const nearRevisions = 200;

export const rawConfigSchema: z.RecordSchema<RawConfig> = z.looseObject({ clusterUID: z.string() });

/**
 * Moves a cluster from one store to another.
 *
 * 1. The target takes the cluster as "incoming": nobody can use it yet.
 * 2. The source is read whole and followed, until the copy has caught up with it.
 * 3. The source's `config` becomes "moved", and its leader is deposed, in one transaction: from that revision on no
 *    subnet is given out or taken back there (G1).
 * 4. What was changed before that revision is repeated; then the target's `config` is written, and it is in use.
 *
 * Until 3 the source is as it was. Stopped anywhere, it goes on when it is run again.
 * @throws {ConflictError} when the source is in use and `live` was not asked for, when the cluster is not there, or
 * when the target is not free; {@link CorruptError} when `verify` finds a difference: the target then stays closed.
 */
export async function copyCluster(
  source: Store,
  target: Store,
  options: CopyOptions = {},
): Promise<CopyResult> {
  const { signal, live = false, now = () => new Date(), onProgress = () => {} } = options;
  const begin = await readConfig(source, signal);
  if (begin.place.state === "here") {
    if (!live) await requireQuiet(source, signal);
  } else {
    await requireOurHandover(source, begin.place, target, signal);
  }
  const copy = await CopyTarget.open(target, { label: source.label, config: begin.config }, { signal, now });
  let leftAt = begin.place.state === "moved" ? begin.entry.modRevision : undefined;
  let [written, removed, repeated] = [0, 0, 0];
  const add = (counts: CopyCounts): void => {
    written += counts.written;
    removed += counts.removed;
  };
  await using changes = new Follower(source, signal);
  for (let whole = false; ; ) {
    const batch = await changes.next(whole && leftAt === undefined ? quietMs : silenceMs);
    if (batch?.type === "snapshot") {
      await requireApart(batch.entries, copy, source, target);
      add(
        await copy.reconcile(batch.entries, (done, total) => onProgress({ stage: "copying", done, total })),
      );
      whole = true;
    } else if (batch) {
      add(await copy.apply(batch.changes));
      repeated += batch.changes.length;
      onProgress({ stage: "following", done: repeated, total: undefined });
    } else if (!whole || leftAt !== undefined) {
      throw new UnavailableError(`${source.label} has said nothing for ${silenceMs / 1_000} s`, {
        outcome: "none",
        hint: "run the same copy again when it answers; it goes on from there",
      });
    }
    if (batch && leftAt !== undefined && batch.revision >= leftAt) break;
    if (leftAt === undefined && whole && (!batch || (await isNear(source, batch, signal)))) {
      leftAt = await leave(source, { id: copy.id, store: target.label, time: now().toISOString() }, signal);
    }
  }
  const overtaken = options.verify ? await verify(source, copy, leftAt, live, onProgress, signal) : 0;
  await copy.commission({ whole: await isWhole(source, signal) });
  return { clusterUID: begin.config.clusterUID, written, removed, overtaken };
}

/** The whole of a cluster at one revision, the records of sessions included. */
export async function readWhole(
  store: Store,
  signal?: AbortSignal,
): Promise<{ readonly entries: readonly Entry[]; readonly revision: Revision }> {
  await using changes = new Follower(store, signal);
  const batch = await changes.next(silenceMs);
  if (batch?.type === "snapshot") return batch;
  throw new UnavailableError(`${store.label} could not be read in ${silenceMs / 1_000} s`, {
    outcome: "none",
    hint: "check that its server answers, and try again",
  });
}

/** Batches of a watch over everything, with a limit to each wait. */
class Follower implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #batches: AsyncIterator<WatchBatch>;
  readonly #signal: AbortSignal | undefined;
  #pending: Promise<IteratorResult<WatchBatch>> | undefined;

  constructor(store: Store, signal: AbortSignal | undefined) {
    this.#signal = signal;
    const ended = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    this.#batches = store.watch("", { signal: ended })[Symbol.asyncIterator]();
  }

  /** Undefined when none comes in that time. @throws the signal's reason */
  async next(waitMs: number): Promise<WatchBatch | undefined> {
    this.#pending ??= this.#batches.next();
    const timer = new AbortController();
    const late = pause(waitMs, timer.signal).catch(() => undefined);
    try {
      const result = await Promise.race([this.#pending, late]);
      if (!result) return undefined;
      this.#pending = undefined;
      if (!result.done) return result.value;
      this.#signal?.throwIfAborted();
      throw new UnavailableError("the watch of the source has ended by itself", { outcome: "none" });
    } finally {
      timer.abort();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#pending?.catch(() => undefined);
  }
}

interface ConfigFound {
  readonly entry: Entry;
  readonly place: ClusterPlace;
  readonly config: RawConfig;
}

async function readConfig(store: Store, signal: AbortSignal | undefined): Promise<ConfigFound> {
  const { entry } = await store.get(keys.config, { signal });
  if (!entry) {
    throw new NotFoundError(`there is no cluster in ${store.label}`, {
      hint: "check the URL and its prefix",
    });
  }
  return { entry, place: placeOf(entry), config: decode(rawConfigSchema, entry) };
}

async function requireQuiet(store: Store, signal: AbortSignal | undefined): Promise<void> {
  const alive = (await listAll(store, prefixes.alive, { signal })).entries;
  const { entry: leader } = await store.get(keys.leader, { signal });
  if (alive.length === 0 && !leader) return;
  const names = alive.slice(0, 3).map((entry) => entry.key.slice(prefixes.alive.length));
  const agents = `${alive.length} agent${alive.length === 1 ? "" : "s"} (${names.join(", ")}${alive.length > 3 ? ", …" : ""})`;
  const who = [...(alive.length > 0 ? [agents] : []), ...(leader ? ["a controller"] : [])].join(" and ");
  throw new ConflictError(`${store.label} is in use by ${who}`, {
    hint: "stop them, or copy with --live",
  });
}

/** A source that the cluster has left may only go on filling the store that it left for. */
async function requireOurHandover(
  source: Store,
  place: ClusterPlace,
  target: Store,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (place.state === "incoming") {
    throw new ConflictError(`${source.label} is itself being filled from ${place.transfer?.store}`, {
      hint: "finish that copy first",
    });
  }
  const { entry } = await target.get(keys.config, { signal });
  const there = entry && placeOf(entry);
  const same = there?.transfer !== undefined && there.transfer.id === place.transfer?.id;
  if (same && there.state === "incoming") return;
  throw new ConflictError(
    same && there.state === "here"
      ? `the cluster has been moved from ${source.label} to ${target.label} already`
      : `the cluster in ${source.label} has moved to ${place.transfer?.store}`,
    { hint: same ? "nothing is left to do" : "copy from there" },
  );
}

/** A target whose keys lie among the source's would be copied into itself without end. */
async function requireApart(
  entries: readonly Entry[],
  copy: CopyTarget,
  source: Store,
  target: Store,
): Promise<void> {
  const inside = entries.some(({ key, value }) => key.endsWith(`/${keys.config}`) && value.includes(copy.id));
  if (!inside) return;
  await copy.withdraw();
  throw new InvalidError(`the prefix of ${target.label} lies within that of ${source.label}`, {
    hint: "name a prefix beside it",
  });
}

/** Whether the source had all it ever acknowledged: where it may not, the target goes on recovering in its place. */
async function isWhole(source: Store, signal: AbortSignal | undefined): Promise<boolean> {
  const { entry } = await patiently(signal, () => source.get(keys.incarnation, { signal }));
  // Read last: a server that has changed since is not missed.
  const current = await patiently(signal, () => source.incarnation({ signal }));
  if (!entry) return false;
  const record = decode(incarnationSchema, entry);
  return !record.recovering && record.current === current;
}

async function isNear(source: Store, batch: WatchBatch, signal: AbortSignal | undefined): Promise<boolean> {
  const { revision } = await patiently(signal, () => source.get(keys.config, { signal }));
  return revision - batch.revision < nearRevisions;
}

/** Takes the source out of use. @returns the revision from which on nothing is given out or taken back there */
async function leave(
  source: Store,
  moved: { readonly id: string; readonly store: string; readonly time: string },
  signal: AbortSignal | undefined,
): Promise<Revision> {
  for (let attempt = 1; attempt <= 8; attempt++) {
    const { entry, place, config } = await patiently(signal, () => readConfig(source, signal));
    if (place.state !== "here") {
      if (place.transfer?.id === moved.id) return entry.modRevision;
      throw new ConflictError(`another copy has moved the cluster to ${place.transfer?.store} meanwhile`);
    }
    // G1; and a leader that has begun to take a subnet back is stopped by its own fence.
    const revision = await putConfig(
      source,
      { key: keys.config, modRevision: entry.modRevision },
      encode({ ...config, schema: "moved", moved }),
      { signal, then: [{ delete: keys.leader }] },
    );
    if (revision !== undefined) return revision;
  }
  throw new ConflictError(`the config in ${source.label} kept changing; the cluster stays there`, {
    hint: "run the copy again",
  });
}

/** @returns how many records were written at the source after it was left */
async function verify(
  source: Store,
  copy: CopyTarget,
  leftAt: Revision,
  live: boolean,
  onProgress: (progress: CopyProgress) => void,
  signal: AbortSignal | undefined,
): Promise<number> {
  const { entries } = await readWhole(source, signal);
  onProgress({ stage: "verifying", done: entries.length, total: undefined });
  const revisions = new Map(entries.map((entry) => [entry.key, entry.modRevision]));
  const differing = await copy.differing(entries);
  const since = differing.filter((key) => {
    const revision = revisions.get(key);
    // A lease that ended there meanwhile is not in the source any more.
    return revision === undefined ? live && key.startsWith(prefixes.pool) : revision > leftAt;
  });
  const wrong = differing.filter((key) => !since.includes(key));
  if (wrong.length === 0) return since.length;
  throw new CorruptError(
    `${wrong.length} records are not the same in both stores: ${wrong.slice(0, 3).join(", ")}${wrong.length > 3 ? ", …" : ""}`,
    { hint: "the target stays closed; run the same copy again" },
  );
}
