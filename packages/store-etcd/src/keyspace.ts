import { checkKey, type Entry } from "@cocoon-net/core";
import type { IKeyValue } from "etcd3";

/** A half-open interval of raw keys. */
export interface KeyRange {
  readonly key: Buffer;
  readonly range_end: Buffer;
}

/** Turns relative keys into the server's and back. */
export class Keyspace {
  readonly #prefix: string;
  readonly #prefixBytes: number;

  /** `prefix` with its trailing slash. */
  constructor(prefix: string) {
    this.#prefix = prefix;
    this.#prefixBytes = Buffer.byteLength(prefix);
  }

  /** @throws {InvalidError} for a key that the port does not allow. */
  full(key: string): Buffer {
    checkKey(key);
    return Buffer.from(this.#prefix + key);
  }

  /** All keys that start with `prefix`, or those of them that come after the key `after`. */
  range(prefix: string, after?: string): KeyRange {
    const start = Buffer.from(this.#prefix + prefix);
    const range_end = prefixEnd(start);
    if (after === undefined) return { key: start, range_end };
    const next = Buffer.from(`${this.#prefix}${after}\0`);
    return { key: Buffer.compare(next, start) > 0 ? next : start, range_end };
  }

  relative(key: Buffer): string {
    return key.toString("utf8", this.#prefixBytes);
  }

  entry(kv: IKeyValue): Entry {
    return {
      key: this.relative(kv.key),
      value: kv.value.toString(),
      createRevision: Number(kv.create_revision),
      modRevision: Number(kv.mod_revision),
    };
  }
}

/** The first key after all that start with `prefix`: its last byte that can grow grows, what follows goes. */
export function prefixEnd(prefix: Buffer): Buffer {
  for (let at = prefix.length - 1; at >= 0; at -= 1) {
    const byte = prefix[at] ?? 0xff;
    if (byte < 0xff) return Buffer.from([...prefix.subarray(0, at), byte + 1]);
  }
  return Buffer.from([0]); // etcd's way to write "no end"
}
