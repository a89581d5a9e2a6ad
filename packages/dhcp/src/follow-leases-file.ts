import { type FSWatcher, watch } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { isMissing } from "./durable-file.ts";
import { type FileLease, parseLeases } from "./leases-file.ts";

export interface LeasesSnapshot {
  /** All entries that parse, expired ones included. */
  readonly leases: readonly FileLease[];
  /** False when an entry did not parse: what is missing from `leases` may still be there (G8). */
  readonly complete: boolean;
}

export interface FollowOptions {
  readonly signal: AbortSignal;
  /** How often the file is looked at besides being watched. Default 2 s. */
  readonly pollMs?: number;
  /** Told, once per change of it, why there is no news: the file is missing, unreadable or half written. */
  readonly onProblem?: (problem: string) => void;
}

/**
 * Follows a `leases.json` that another program writes: yields the whole file at start and whenever it changed. A
 * missing, unreadable or half-written file yields nothing: it means "no news", never "all gone" (G8). Ends when
 * the signal aborts.
 */
export async function* followLeasesFile(
  path: string,
  options: FollowOptions,
): AsyncGenerator<LeasesSnapshot> {
  const { signal, pollMs = 2000 } = options;
  using bell = new Bell(path, signal);
  let known: Known | undefined;
  let problem: string | undefined;
  while (!signal.aborted) {
    const read = await readChanged(path, known);
    if (read.problem !== problem) {
      problem = read.problem;
      if (problem !== undefined) options.onProblem?.(problem);
    }
    known = read.known ?? known;
    if (read.snapshot !== undefined) yield read.snapshot;
    await bell.rung(pollMs);
  }
}

/** The last content that could be parsed, and what the file looked like then. */
interface Known {
  readonly stamp: string;
  readonly text: string;
}

interface Read {
  readonly known?: Known;
  /** Undefined when nothing changed, or nothing could be read. */
  readonly snapshot?: LeasesSnapshot;
  readonly problem?: string;
}

async function readChanged(path: string, known: Known | undefined): Promise<Read> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, "r");
    const { mtimeNs, size, ino } = await file.stat({ bigint: true });
    const stamp = `${mtimeNs} ${size} ${ino}`;
    if (stamp === known?.stamp) return {};
    const text = await file.readFile("utf8");
    // The file may have been finished between the two calls: then its stamp changes once more, its content does not.
    if (text === known?.text) return { known: { stamp, text } };
    const { leases, skipped } = parseLeases(text, path);
    return { known: { stamp, text }, snapshot: { leases, complete: skipped === 0 } };
  } catch (error) {
    if (isMissing(error)) return { problem: `${path} does not exist` };
    return { problem: error instanceof Error ? error.message : String(error) };
  } finally {
    await file?.close();
  }
}

/** Rings when the directory reports a change of the file, or the signal aborts. */
class Bell implements Disposable {
  readonly #path: string;
  readonly #signal: AbortSignal;
  #watcher: FSWatcher | undefined;
  #ringing = false;
  #wake: (() => void) | undefined;
  readonly #ring = (): void => {
    this.#ringing = true;
    this.#wake?.();
  };

  constructor(path: string, signal: AbortSignal) {
    this.#path = path;
    this.#signal = signal;
    signal.addEventListener("abort", this.#ring);
    this.#watch();
  }

  /** Resolves at the next ring, at once when one was missed, or after `timeoutMs`. */
  async rung(timeoutMs: number): Promise<void> {
    if (this.#watcher === undefined) this.#watch();
    if (!this.#ringing) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#wake = undefined;
    this.#ringing = false;
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener("abort", this.#ring);
    this.#watcher?.close();
  }

  /** The directory, because the file is replaced by rename. Where that fails, the poll has to do. */
  #watch(): void {
    try {
      const name = basename(this.#path);
      const watcher = watch(dirname(this.#path), { persistent: false }, (_event, changed) => {
        if (changed === null || changed === name) this.#ring();
      });
      watcher.on("error", () => {
        watcher.close();
        if (this.#watcher === watcher) this.#watcher = undefined;
      });
      this.#watcher = watcher;
    } catch {
      this.#watcher = undefined;
    }
  }
}
