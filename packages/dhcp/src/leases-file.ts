import { readFile } from "node:fs/promises";
import { type Address, CorruptError, parseAddress } from "@cocoon-net/core";
import { isMissing, keepAside, replaceFile, writeAll } from "./durable-file.ts";
import type { Lease } from "./lease.ts";

/** One entry of `leases.json`. */
export type FileLease = Pick<Lease, "mac" | "ip" | "expiry">;

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

/** The file's content: sorted by address, so that equal leases make equal bytes. */
export function formatLeases(leases: Iterable<FileLease>): string {
  const entries: { readonly address: Address; readonly line: string }[] = [];
  for (const { mac, ip, expiry } of leases) {
    const time = new Date(expiry).toISOString().replace(".000Z", "Z");
    entries.push({ address: parseAddress(ip), line: JSON.stringify({ mac, ip, expiry: time }) });
  }
  entries.sort((one, other) => one.address - other.address);
  return entries.length === 0 ? "[]\n" : `[\n${entries.map(({ line }) => line).join(",\n")}\n]\n`;
}

export interface LeasesFileOptions {
  /** Called when a write fails, once per cause; it is retried. */
  readonly onProblem?: (error: unknown) => void;
}

/** Changes that come within this time share a write. */
const gatherMs = 10;
const minRetryMs = 1000;
const maxRetryMs = 30_000;

/**
 * Keeps `leases.json` equal to the live leases, at most 100 ms behind, for the programs that read it (the node's
 * virtual kubelet) and as the way back to the program that wrote it before. Every reader sees a whole file.
 */
export class LeasesFile implements AsyncDisposable {
  readonly path: string;
  readonly #onProblem: (error: unknown) => void;
  #leases: () => Iterable<FileLease> = () => [];
  /** What the file holds; undefined until we know. */
  #content: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #changed = false;
  #retryMs = 0;
  #closed = false;

  constructor(path: string, options: LeasesFileOptions = {}) {
    this.path = path;
    this.#onProblem = options.onProblem ?? (() => undefined);
  }

  /** Begins to follow `leases`. A file that says the same already is not touched. */
  async start(leases: () => Iterable<FileLease>): Promise<void> {
    this.#leases = leases;
    const text = await readFile(this.path, "utf8").catch(() => undefined);
    if (text !== undefined) {
      try {
        const parsed = parseLeases(text, this.path);
        if (parsed.skipped === 0) this.#content = formatLeases(parsed.leases);
      } catch {
        // `readLeasesFile` reports a broken file; here it only means that ours has to be written.
      }
    }
    this.#changed = true;
    await this.flush();
  }

  /** Says that the leases changed. The file follows within 100 ms. */
  touch(): void {
    this.#changed = true;
    if (this.#closed || this.#timer !== undefined || this.#writing !== undefined) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        void this.#write();
      },
      Math.max(gatherMs, this.#retryMs),
    );
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

  #write(): Promise<void> {
    this.#writing ??= this.#replace().finally(() => {
      this.#writing = undefined;
      if (this.#changed) this.touch();
    });
    return this.#writing;
  }

  async #replace(): Promise<void> {
    if (!this.#changed) return;
    this.#changed = false;
    const content = formatLeases(this.#leases());
    if (content === this.#content) return;
    try {
      const bytes = Buffer.from(content);
      const handle = await replaceFile(this.path, 0o644, (file) => writeAll(file, bytes, 0));
      await handle.close();
      this.#content = content;
      this.#retryMs = 0;
    } catch (error) {
      if (this.#retryMs === 0) this.#onProblem(error);
      this.#retryMs = Math.min(maxRetryMs, Math.max(minRetryMs, this.#retryMs * 2));
      this.#changed = true;
    }
  }
}
