import { constants } from "node:fs";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { CorruptError, UnavailableError } from "@cocoon-net/core";
import { codeOf, isMissing, keepAside, replaceFile, syncDirectory, writeAll } from "./durable-file.ts";
import { encodeFrame, headerFrame, maxFrameBytes, type ReadJournal, readJournal } from "./journal-format.ts";
import { type AddressRecord, type EngineState, emptyState } from "./lease.ts";

export interface JournalOptions {
  /** The file is compacted when it is larger than this and than four times what it was compacted to. Default 1 MiB. */
  readonly compactBytes?: number;
  /** Monotonic milliseconds; spaces attempts to rewrite the file on a failing disk. Default `performance.now`. */
  readonly monotonic?: () => number;
}

/** The current state, at least as new as every record that was handed to `append`. */
export interface JournalSource {
  readonly seq: number;
  records(): Iterable<AddressRecord>;
}

export interface OpenedJournal {
  readonly journal: Journal;
  readonly state: EngineState;
  /** Bytes of a torn last write that were cut off. They were never acknowledged. */
  readonly cutBytes: number;
}

export interface JournalStats {
  /** Records written since the journal was opened. */
  readonly records: number;
  /** Writes, each of which was on disk when it returned. */
  readonly syncs: number;
  readonly compactions: number;
  readonly bytes: number;
  /** Why the last append failed; undefined when it did not. */
  readonly failing: string | undefined;
  /** Why the file could not be compacted; it is whole and goes on growing meanwhile. */
  readonly compactionFailing: string | undefined;
}

/** A write returns once it is on disk, as if fdatasync followed: one trip to a worker thread instead of two. */
const synced = constants.O_RDWR | constants.O_DSYNC;
/** With these the kernel has refused a write; with any other error, pages may be lost that it had taken. */
const refusals: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT", "EFBIG", "EROFS"]);

/** Of a new file; each is well below 2 KiB (the options it holds are at most 255 bytes long). */
const recordsPerFrame = 512;

const minPauseMs = 1000;
const maxPauseMs = 60_000;

interface Waiting {
  readonly records: readonly AddressRecord[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * What a journal says, which is left as it is: another process may have it open. A missing one says nothing.
 * @throws {CorruptError} when it is damaged or of an unknown version
 */
export async function readJournalFile(path: string): Promise<EngineState> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if (isMissing(error)) return emptyState;
    throw error;
  }
  const read = readJournal(bytes);
  if (read.ok) return stateOf(read);
  throw new CorruptError(`the lease journal ${path} cannot be read: ${read.reason}`);
}

/** The newest record of each address. */
function stateOf({ header, records }: Extract<ReadJournal, { ok: true }>): EngineState {
  const newest = new Map<string, AddressRecord>();
  let { seq } = header;
  for (const record of records) {
    newest.set(record.ip, record);
    seq = Math.max(seq, record.seq);
  }
  return { seq, records: [...newest.values()] };
}

/**
 * The append-only file that makes leases durable (G2). Everything that waits shares one synchronous write.
 * When a write fails, its records are refused, the file is cut back to its last whole frame, and the next
 * append tries again; nothing that was acknowledged is ever behind something half written.
 */
export class Journal implements AsyncDisposable {
  readonly #path: string;
  readonly #compactBytes: number;
  readonly #monotonic: () => number;
  #handle: FileHandle;
  /** Where the last whole frame ends. */
  #end: number;
  #compactAbove: number;
  #source: JournalSource | undefined;
  /** The file may hold something that we do not know of: it must be written anew before the next append. */
  #suspect = false;
  /** Records were refused that the state has: it is written anew when the disk takes writes again. */
  #behind = false;
  #waiting: Waiting[] = [];
  #writer: Promise<void> | undefined;
  #closed: Promise<void> | undefined;
  #failing: string | undefined;
  #compactionFailing: string | undefined;
  #pauseMs = 0;
  #retryAt = 0;
  #records = 0;
  #syncs = 0;
  #compactions = 0;

  private constructor(path: string, handle: FileHandle, end: number, options: JournalOptions) {
    this.#path = path;
    this.#handle = handle;
    this.#end = end;
    this.#compactBytes = options.compactBytes ?? 1 << 20;
    this.#compactAbove = this.#compactBytes;
    this.#monotonic = options.monotonic ?? (() => performance.now());
  }

  /**
   * Opens the journal, creating it when there is none. A torn last write is cut off.
   * @throws {CorruptError} when the file is damaged elsewhere or of an unknown version; it is then kept aside
   *   under another name
   */
  static async open(path: string, options: JournalOptions = {}): Promise<OpenedJournal> {
    let handle: FileHandle;
    try {
      handle = await open(path, synced);
    } catch (error) {
      if (!isMissing(error)) throw error;
      const header = headerFrame(0);
      await (await replaceFile(path, 0o600, (file) => writeAll(file, header, 0))).close();
      await syncDirectory(dirname(path));
      handle = await open(path, synced);
      return { journal: new Journal(path, handle, header.length, options), state: emptyState, cutBytes: 0 };
    }
    try {
      const bytes = await handle.readFile();
      const read = readJournal(bytes);
      if (!read.ok) {
        const aside = await keepAside(path, new Date());
        throw new CorruptError(
          `the lease journal ${path} cannot be read: ${read.reason}; it was kept as ${aside}`,
          {
            hint: "start again to go on with the leases of leases.json, or put a good copy of the journal back first",
          },
        );
      }
      const cutBytes = bytes.length - read.end;
      if (cutBytes > 0) {
        await handle.truncate(read.end);
        await handle.datasync();
      }
      return { journal: new Journal(path, handle, read.end, options), state: stateOf(read), cutBytes };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * Sets where compaction takes the current state from. Without a source the file only grows, and a failed sync is
   * final.
   */
  compactFrom(source: JournalSource): void {
    this.#source = source;
  }

  get stats(): JournalStats {
    return {
      records: this.#records,
      syncs: this.#syncs,
      compactions: this.#compactions,
      bytes: this.#end,
      failing: this.#failing,
      compactionFailing: this.#compactionFailing,
    };
  }

  /**
   * Resolves once the records are on disk, all of them in one frame.
   * @throws {UnavailableError} (`outcome: "none"`) when they could not be written, or after dispose
   */
  append(records: readonly AddressRecord[]): Promise<void> {
    if (records.length === 0) return Promise.resolve();
    if (this.#closed !== undefined) {
      return Promise.reject(
        new UnavailableError(`the lease journal ${this.#path} is closed`, { outcome: "none" }),
      );
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ records, resolve, reject });
      this.#writer ??= this.#write();
    });
  }

  /** Waits for what was appended, then closes the file. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= (async () => {
      await this.#writer;
      await this.#handle.close();
    })();
    return this.#closed;
  }

  async #write(): Promise<void> {
    // Let every append of this turn of the event loop join the first write.
    await new Promise(setImmediate);
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        if (this.#suspect) await this.#compact();
        await this.#writeGroup(group);
        this.#failing = undefined;
        for (const { resolve } of group) resolve();
      } catch (cause) {
        this.#behind = true;
        this.#failing = cause instanceof Error ? cause.message : String(cause);
        const error = new UnavailableError(
          `the lease journal ${this.#path} cannot be written: ${this.#failing}`,
          {
            outcome: "none",
            cause,
            hint: "make room on the disk or make it writable; granting goes on by itself then",
          },
        );
        for (const { reject } of group) reject(error);
        continue;
      }
      const wanted = this.#behind || this.#end > this.#compactAbove;
      if (wanted && this.#source !== undefined && this.#monotonic() >= this.#retryAt) {
        await this.#compact().catch(() => undefined); // told by `stats`; tried again after a pause
      }
    }
    this.#writer = undefined;
  }

  /** One write; more only when the group does not fit one frame. */
  async #writeGroup(group: readonly Waiting[]): Promise<void> {
    const start = this.#end;
    try {
      for (const frame of framesOf(group.map(({ records }) => records))) {
        await writeAll(this.#handle, frame, this.#end);
        this.#syncs++;
        this.#end += frame.length;
      }
    } catch (error) {
      // A refused write leaves at worst a piece of a frame, which must not stand before the next one. After a failed
      // sync the kernel may have dropped what it could not write: only a new file can be trusted then.
      this.#end = start;
      this.#suspect = true;
      await this.#handle.truncate(start).then(
        () => {
          this.#suspect = !refusals.has(codeOf(error));
        },
        () => undefined,
      );
      throw error;
    }
    for (const { records } of group) this.#records += records.length;
  }

  /** Writes the current state to a new file. Appends wait meanwhile. */
  async #compact(): Promise<void> {
    const source = this.#source;
    if (source === undefined || this.#monotonic() < this.#retryAt) {
      throw new Error(this.#compactionFailing ?? this.#failing ?? "nothing to write it anew from");
    }
    let size = 0;
    try {
      const written = await replaceFile(this.#path, 0o600, async (file) => {
        for (const frame of stateFrames(source)) {
          await writeAll(file, frame, size);
          size += frame.length;
        }
      });
      this.#suspect = true; // what we hold is the old file, which a power cut could still bring back
      await written.close();
      const old = this.#handle;
      this.#handle = await open(this.#path, synced);
      this.#end = size;
      await old.close();
      await syncDirectory(dirname(this.#path));
    } catch (error) {
      this.#pauseMs = Math.min(maxPauseMs, Math.max(minPauseMs, this.#pauseMs * 2));
      this.#retryAt = this.#monotonic() + this.#pauseMs;
      this.#compactionFailing = error instanceof Error ? error.message : String(error);
      throw error;
    }
    this.#suspect = false;
    this.#behind = false;
    this.#compactionFailing = undefined;
    this.#pauseMs = 0;
    this.#retryAt = 0;
    this.#compactAbove = Math.max(this.#compactBytes, 4 * size);
    this.#compactions++;
  }
}

function* stateFrames(source: JournalSource): Generator<Buffer> {
  yield headerFrame(source.seq);
  let frame: AddressRecord[] = [];
  for (const record of source.records()) {
    if (frame.push(record) < recordsPerFrame) continue;
    yield encodeFrame(frame);
    frame = [];
  }
  if (frame.length > 0) yield encodeFrame(frame);
}

/** The records of one append stay in one frame when they fit: they are applied together or not at all. */
function* framesOf(appends: readonly (readonly AddressRecord[])[]): Generator<Buffer> {
  const [first = []] = appends;
  const records = appends.length === 1 ? first : appends.flat();
  const frame = encodeFrame(records);
  if (frame.length <= maxFrameBytes || records.length === 1) return yield frame;
  const parts = appends.length === 1 ? records.map((record) => [record]) : appends;
  yield* framesOf(parts.slice(0, parts.length >> 1));
  yield* framesOf(parts.slice(parts.length >> 1));
}
