import { formatAddress, parseAddress } from "./ipv4.ts";
import { prefixes } from "./keys.ts";
import { decode, type LeaseRecord, leaseSchema } from "./model.ts";
import type { Entry } from "./store.ts";

const rowsPerChunk = 4_096;

interface Chunk {
  /** Of each row: address, MAC, expiry in milliseconds since 1970, seq. */
  readonly numbers: Float64Array;
  /** Of each row: node, vmID, hostname. */
  readonly texts: (string | undefined)[];
}

/**
 * The leases of a whole cluster, in less than half of the memory that as many records take: numbers in columns, and the
 * name of a node once. Iterates in the order in which they were added, and makes each record when it is asked for. What
 * the model does not know of a record is not kept.
 */
export class LeaseTable implements Iterable<readonly [address: string, lease: LeaseRecord]> {
  readonly #chunks: Chunk[] = [];
  readonly #names = new Map<string, string>();
  /** By row: records whose MAC or time is not written as this version writes it. */
  readonly #odd = new Map<number, LeaseRecord>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /**
   * Adds `pool/{ip}` as the store has it. Without making a record first, as a rule: a controller reads a cluster's all.
   * @throws {CorruptError} as `decode`, {InvalidError} when the address is malformed.
   */
  addEntry(entry: Pick<Entry, "key" | "value">): void {
    const address = entry.key.slice(prefixes.pool.length);
    const [, node, mac = "", expiry = "", vmID, hostname, seq] = asWritten.exec(entry.value) ?? [];
    const [packed, time] = [packMac(mac), Date.parse(expiry)];
    if (node === undefined || packed === undefined || Number.isNaN(time)) {
      this.add(address, decode(leaseSchema, entry));
      return;
    }
    const name = this.#names.get(node) ?? detached(node) ?? node;
    this.#push(address, packed, time, Number(seq), name, detached(vmID), detached(hostname));
  }

  /** @throws {InvalidError} when the address is malformed. */
  add(address: string, lease: LeaseRecord): void {
    const { node, mac, expiry, vmID, hostname, seq } = lease;
    const packed = packMac(mac);
    if (packed === undefined || !isUsualTime(expiry)) this.#odd.set(this.#size, lease);
    this.#push(address, packed ?? 0, Date.parse(expiry), seq, node, vmID, hostname);
  }

  #push(
    ...[address, mac, expiry, seq, node, vmID, hostname]: readonly [
      ...[address: string, mac: number, expiry: number, seq: number],
      ...[node: string, vmID: string | undefined, hostname: string | undefined],
    ]
  ): void {
    const row = this.#size % rowsPerChunk;
    if (row === 0) this.#chunks.push({ numbers: new Float64Array(4 * rowsPerChunk), texts: [] });
    const chunk = this.#chunks.at(-1);
    if (chunk === undefined) return;
    const { numbers, texts } = chunk;
    numbers[4 * row] = parseAddress(address);
    numbers[4 * row + 1] = mac;
    numbers[4 * row + 2] = expiry;
    numbers[4 * row + 3] = seq;
    texts.push(this.#once(node), vmID, hostname);
    this.#size += 1;
  }

  *[Symbol.iterator](): Generator<readonly [address: string, lease: LeaseRecord], void, void> {
    for (const [at, { numbers, texts }] of this.#chunks.entries()) {
      for (let row = 0; row < texts.length / 3; row++) {
        const [address = 0, mac = 0, expiry = 0, seq = 0] = numbers.subarray(4 * row, 4 * row + 4);
        const [node = "", vmID, hostname] = texts.slice(3 * row, 3 * row + 3);
        const usual = {
          ...{ node, mac: formatMac(mac), expiry: new Date(expiry).toISOString(), seq },
          ...(vmID === undefined ? {} : { vmID }),
          ...(hostname === undefined ? {} : { hostname }),
        };
        yield [formatAddress(address), this.#odd.get(at * rowsPerChunk + row) ?? usual];
      }
    }
  }

  #once(name: string): string {
    const known = this.#names.get(name);
    if (known === undefined) this.#names.set(name, name);
    return known ?? name;
  }
}

/** A lease record as `encode` writes it: with its fields in the model's order and no others, and nothing escaped. */
const asWritten = new RegExp(
  [
    String.raw`^\{"node":"([^"\\\x00-\x1f]*)","mac":"([0-9a-f:]{17})"`,
    String.raw`,"expiry":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"`,
    String.raw`(?:,"vmID":"([^"\\\x00-\x1f]*)")?(?:,"hostname":"([^"\\\x00-\x1f]*)")?,"seq":(0|[1-9]\d{0,14})\}$`,
  ].join(""),
);

/** A part of a text keeps all of it in memory; this does not. */
function detached(part: string | undefined): string | undefined {
  // Short ones are copies anyway.
  return part === undefined || part.length < 13 ? part : (JSON.parse(`"${part}"`) as string);
}

/** By hand, as addresses are. Undefined when it is not written as `52:54:00:00:00:01`. */
function packMac(mac: string): number | undefined {
  if (mac.length !== 17) return undefined;
  let packed = 0;
  for (let at = 0; at < 17; at++) {
    const code = mac.charCodeAt(at);
    if (at % 3 === 2) {
      if (code !== 58) return undefined;
    } else if (code >= 48 && code <= 57) packed = packed * 16 + code - 48;
    else if (code >= 97 && code <= 102) packed = packed * 16 + code - 87;
    else return undefined;
  }
  return packed;
}

function formatMac(packed: number): string {
  return (packed.toString(16).padStart(12, "0").match(/../g) ?? []).join(":");
}

/** As `toISOString` writes it. */
function isUsualTime(text: string): boolean {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(text);
}
