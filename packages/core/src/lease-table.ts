import { formatAddress, parseAddress } from "./ipv4.ts";
import type { LeaseRecord } from "./model.ts";

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

  /** @throws {InvalidError} when the address is malformed. */
  add(address: string, lease: LeaseRecord): void {
    const row = this.#size % rowsPerChunk;
    if (row === 0) this.#chunks.push({ numbers: new Float64Array(4 * rowsPerChunk), texts: [] });
    const chunk = this.#chunks.at(-1);
    const { node, mac, expiry, vmID, hostname, seq } = lease;
    const packed = packMac(mac);
    if (packed === undefined || !isUsualTime(expiry)) this.#odd.set(this.#size, lease);
    chunk?.numbers.set([parseAddress(address), packed ?? 0, Date.parse(expiry), seq], 4 * row);
    chunk?.texts.push(this.#once(node), vmID, hostname);
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

function packMac(mac: string): number | undefined {
  return /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/.test(mac)
    ? Number.parseInt(mac.replaceAll(":", ""), 16)
    : undefined;
}

function formatMac(packed: number): string {
  return (packed.toString(16).padStart(12, "0").match(/../g) ?? []).join(":");
}

/** As `toISOString` writes it. */
function isUsualTime(text: string): boolean {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(text);
}
