import { type FSWatcher, watch } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { CorruptError, describeError } from "@cocoon-net/core";
import { isMissing } from "./durable-file.ts";
import { detectFormat, type FollowedLeases, type LeaseFileFormat } from "./lease-file-formats.ts";

export interface FollowOptions {
  readonly signal: AbortSignal;
  /** Default: told by how the file begins, once there is enough of it. */
  readonly format?: LeaseFileFormat;
  /** How often the file is looked at besides being watched. Default 2 s. */
  readonly pollMs?: number;
  /** Told, once per change of it, why there is no news: the file is missing, unreadable or half written. */
  readonly onProblem?: (problem: string) => void;
}

/**
 * Follows the lease file of another DHCP server: yields all its leases at start and whenever they changed. A
 * missing, unreadable or half-written file yields nothing: it means "no news", never "all gone" (G8). Ends when
 * the signal aborts.
 */
export async function* followLeasesFile(
  path: string,
  options: FollowOptions,
): AsyncGenerator<FollowedLeases> {
  const { signal, pollMs = 2000 } = options;
  using bell = new Bell(path, signal);
  let known: Known | undefined;
  let problem: string | undefined;
  /** What the file tells, as long as it may be a part of it, and since when it has been that. */
  let part: { readonly leases: FollowedLeases; since: number } | undefined;
  while (!signal.aborted) {
    const begun = performance.now();
    let found: string | undefined;
    try {
      const read: Known = await readFiles(path, known?.format ?? options.format, known);
      if (read.texts !== known?.texts) {
        const leases = read.format.parse(read.texts, path);
        part = read.format.inPlace && leases.complete ? { leases, since: begun } : undefined;
        known = read;
        yield part ? { ...leases, complete: false } : leases;
      } else if (part) {
        if (read.stamp !== known.stamp) part.since = begun;
        known = read;
        if (begun - part.since >= settleMs) {
          yield part.leases;
          part = undefined;
        }
      } else known = read;
    } catch (error) {
      found = isMissing(error) ? `${path} does not exist` : describeError(error);
    }
    if (found !== problem) {
      problem = found;
      if (problem !== undefined) options.onProblem?.(problem);
    }
    // A long file of a server that writes much still takes but a small part of a processor.
    const restMs = Math.min(maxRestMs, 4 * (performance.now() - begun));
    await pause(restMs, undefined, { signal }).catch(() => undefined);
    await bell.rung(part ? Math.min(pollMs, settleMs) : pollMs);
  }
}

/** A file that is written in place counts as whole once it has been the same for so long. */
const settleMs = 500;
const maxRestMs = 500;
const maxLooks = 5;

/** The content that was parsed last, and what the files looked like then. */
interface Known {
  readonly format: LeaseFileFormat;
  readonly stamp: string;
  readonly texts: readonly (string | undefined)[];
}

async function readFiles(
  path: string,
  given: LeaseFileFormat | undefined,
  known: Known | undefined,
): Promise<Known> {
  const format = given ?? detectFormat(await readFile(path, "utf8"));
  if (!format) throw new CorruptError(`${path} is empty or of no known format`);
  const files = [path, ...format.besides.map((ending) => path + ending)];
  for (let looks = 0; looks < maxLooks; looks++) {
    const { stamp, names } = await look(files);
    if (stamp === known?.stamp) return known;
    const texts = await Promise.all(files.map((file) => readFile(file, "utf8").catch(noneIfMissing)));
    // Files that were moved between two reads would hide a lease; one that has grown is read again at the next look.
    if ((await look(files)).names !== names) continue;
    const same = texts.every((text, index) => text === known?.texts[index]);
    return { format, stamp, texts: known && same ? known.texts : texts };
  }
  throw new CorruptError(`${path} keeps being moved`);
}

/** What changes with the files, and what changes only when one takes another's name. */
async function look(files: readonly string[]): Promise<{ stamp: string; names: string }> {
  const found = await Promise.all(
    files.map((file, at) =>
      at === 0 ? stat(file, { bigint: true }) : stat(file, { bigint: true }).catch(noneIfMissing),
    ),
  );
  return {
    stamp: found.map((one) => (one ? `${one.mtimeNs} ${one.size} ${one.ino}` : "none")).join(),
    names: found.map((one) => one?.ino ?? "none").join(),
  };
}

function noneIfMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error;
}

/** Rings when the directory reports a change of the file or of one beside it, or the signal aborts. */
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
        if (changed === null || changed.startsWith(name)) this.#ring();
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
