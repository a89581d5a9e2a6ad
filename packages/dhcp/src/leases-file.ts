import { readFile } from "node:fs/promises";
import { type Address, CorruptError, parseAddress } from "@cocoon-net/core";
import { isMissing, keepAside, mustBeFile, replaceFile, writeAll } from "./durable-file.ts";
import { type FileLease, type LeasesText, leasesText } from "./leases-text.ts";

export type { FileLease } from "./leases-text.ts";

export interface ParsedLeases {
  readonly leases: readonly FileLease[];
  /** Entries that did not parse. */
  readonly skipped: number;
}

/**
 * Reads today's format: an array of `{"mac", "ip", "expiry"}`; the expiry becomes milliseconds since the epoch.
 * @throws {CorruptError} when the text is not a JSON array
 */
export function parseLeases(text: string, path: string): ParsedLeases {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CorruptError(`${path} is not JSON`, { cause });
  }
  // What the existing program writes when there is no lease yet.
  if (json === null) return { leases: [], skipped: 0 };
  if (!Array.isArray(json)) throw new CorruptError(`${path} is not a JSON array`);
  const leases = json.map(parseEntry).filter((entry) => entry !== undefined);
  return { leases, skipped: json.length - leases.length };
}

function parseEntry(entry: unknown): FileLease | undefined {
  if (typeof entry !== "object" || entry === null) return undefined;
  const { mac, ip, expiry } = entry as Record<string, unknown>;
  if (typeof mac !== "string" || typeof ip !== "string" || typeof expiry !== "string") return undefined;
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(expiry)
    ? Date.parse(expiry)
    : NaN;
  if (Number.isNaN(time) || !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) return undefined;
  try {
    parseAddress(ip);
  } catch {
    return undefined;
  }
  return { mac: mac.toLowerCase(), ip, expiry: time };
}

/**
 * Reads `leases.json`. A missing file holds no leases.
 * @throws {CorruptError} when it is not a JSON array; the file is then kept aside under another name
 */
export async function readLeasesFile(path: string): Promise<ParsedLeases> {
  await mustBeFile(path);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return { leases: [], skipped: 0 };
    throw error;
  }
  try {
    return parseLeases(text, path);
  } catch (cause) {
    const aside = await keepAside(path, new Date());
    throw new CorruptError(`${cause instanceof Error ? cause.message : path}; it was kept as ${aside}`, {
      cause,
      hint: "start again to go on with the leases of the journal, or put a good copy back first",
    });
  }
}

/** The live leases. A `LeaseEngine` is one. */
export interface LeasesSource {
  leases(): Iterable<FileLease>;
  leaseOf(address: Address): FileLease | undefined;
}

export interface LeasesFileOptions {
  /** Called when a write fails, once per cause; it is retried. */
  readonly onProblem?: (error: unknown) => void;
}

/** Changes that come within this time share a write. */
const gatherMs = 10;
/** A large file is written less often, as far as it is still at most `behindMs` behind then. */
const largeBytes = 1 << 18;
const largeGatherMs = 70;
const behindMs = 90;
const minRetryMs = 1000;
const maxRetryMs = 30_000;

/**
 * Keeps `leases.json` equal to the live leases, at most 100 ms behind, for the programs that read it (the node's
 * virtual kubelet) and as the way back to the program that wrote it before. Every reader sees a whole file.
 */
export class LeasesFile implements AsyncDisposable {
  readonly path: string;
  readonly #onProblem: (error: unknown) => void;
  #source: LeasesSource | undefined;
  #text: LeasesText = leasesText([]);
  readonly #touched = new Set<Address>();
  /** The file is known to hold `#text`. */
  #isWritten = false;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  /** Of the last write: how large, and how long it took. */
  #bytes = 0;
  #writeMs = 0;
  #retryMs = 0;
  #closed = false;

  constructor(path: string, options: LeasesFileOptions = {}) {
    this.path = path;
    this.#onProblem = options.onProblem ?? (() => undefined);
  }

  /** Begins to follow `source`. A file that says the same already is not touched. */
  async start(source: LeasesSource): Promise<void> {
    this.#source = source;
    this.#text = leasesText(source.leases());
    const text = await readFile(this.path, "utf8").catch(() => undefined);
    if (text !== undefined) {
      try {
        const { leases, skipped } = parseLeases(text, this.path);
        this.#isWritten = skipped === 0 && leasesText(leases).bytes().equals(this.#text.bytes());
      } catch {
        // `readLeasesFile` reports a broken file; here it only means that ours has to be written.
      }
    }
    await this.flush();
  }

  /** Says that the lease of an address began, changed or ended. The file follows within 100 ms. */
  touch(address: Address): void {
    this.#touched.add(address);
    this.#schedule();
  }

  /** Resolves once the file has been written, or its write has failed and been reported. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#writing;
    await this.#write();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return this.#writing;
    this.#closed = true;
    await this.flush();
  }

  #schedule(): void {
    if (this.#closed || this.#timer !== undefined || this.#writing !== undefined) return;
    const isLarge = this.#bytes > largeBytes;
    const largeMs = isLarge ? Math.min(largeGatherMs, behindMs - 2 * this.#writeMs) : 0;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        void this.#write();
      },
      Math.max(gatherMs, largeMs, this.#retryMs),
    );
  }

  #write(): Promise<void> {
    this.#writing ??= this.#replace().finally(() => {
      this.#writing = undefined;
      if (this.#touched.size > 0 || !this.#isWritten) this.#schedule();
    });
    return this.#writing;
  }

  async #replace(): Promise<void> {
    if (this.#text.update(this.#touched, (address) => this.#source?.leaseOf(address)))
      this.#isWritten = false;
    this.#touched.clear();
    if (this.#isWritten) return;
    const start = performance.now();
    try {
      const bytes = this.#text.bytes();
      this.#bytes = bytes.length;
      const handle = await replaceFile(this.path, 0o644, (file) => writeAll(file, bytes, 0));
      this.#isWritten = true;
      this.#retryMs = 0;
      await handle.close();
    } catch (error) {
      if (this.#retryMs === 0) this.#onProblem(error);
      this.#retryMs = Math.min(maxRetryMs, Math.max(minRetryMs, this.#retryMs * 2));
    }
    this.#writeMs = performance.now() - start;
  }
}
