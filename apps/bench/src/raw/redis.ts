import { Redis } from "ioredis";
import type { Target } from "../target.ts";
import type { RawClient, RawEntry, RawFence } from "./client.ts";

/** Compare and write, in one hash. KEYS: the hash. ARGV: fence, its value, then keys and values. */
const writeScript = `
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
`;

/** Lowest free bit. KEYS: the hash, the bitmap. ARGV: node, slots, then keys and values to write. */
const registerScript = `
if redis.call('HEXISTS', KEYS[1], 'subnets/' .. ARGV[1]) == 1 then return -1 end
local slot = redis.call('BITPOS', KEYS[2], 0)
if slot < 0 or slot >= tonumber(ARGV[2]) then return -1 end
redis.call('SETBIT', KEYS[2], slot, 1)
redis.call('HSET', KEYS[1], 'slots/' .. slot, ARGV[1], unpack(ARGV, 3))
return slot
`;

/** ioredis as it comes, but for a deadline. */
export async function openRawRedis(target: Target): Promise<RawClient> {
  const options = { host: target.host, port: target.port, protocol: 2 as const, lazyConnect: true };
  const client = new Redis({ ...options, commandTimeout: 10_000 });
  client.on("error", () => {});
  await client.connect();
  const scripts = {
    write: String(await client.script("LOAD", writeScript)),
    register: String(await client.script("LOAD", registerScript)),
  };
  return new RawRedis(client, target.prefix, scripts);
}

class RawRedis implements RawClient {
  readonly #client: Redis;
  readonly #hash: string;
  readonly #bitmap: string;
  readonly #alive: string;
  /** SHA-1 of each. */
  readonly #scripts: { readonly write: string; readonly register: string };
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #followers: Redis[] = [];
  #closed = false;

  constructor(client: Redis, prefix: string, scripts: { readonly write: string; readonly register: string }) {
    this.#client = client;
    this.#hash = prefix;
    this.#bitmap = `${prefix}#slots`;
    this.#alive = `${prefix}#alive`;
    this.#scripts = scripts;
  }

  async claim(key: string, value: string): Promise<RawFence> {
    await this.#client.hset(this.#hash, key, value);
    return { key, token: value };
  }

  async write(fence: RawFence, entries: readonly RawEntry[]): Promise<void> {
    const args = [this.#hash, fence.key, fence.token, ...entries.flat()];
    const written = await this.#client.evalsha(this.#scripts.write, 1, ...args);
    if (written !== 1) throw new Error(`the fence ${fence.key} does not hold`);
  }

  async readAll(prefix: string, take: (key: string, value: string) => void): Promise<void> {
    let cursor = "0";
    do {
      const [next, found] = await this.#client.hscan(this.#hash, cursor, "COUNT", 10_000);
      for (let at = 0; at + 1 < found.length; at += 2) {
        const [key = "", value = ""] = [found[at], found[at + 1]];
        if (key.startsWith(prefix)) take(key, value);
      }
      cursor = next;
    } while (cursor !== "0");
  }

  async occupySlots(taken: number): Promise<void> {
    if (taken === 0) return;
    const bits = Buffer.alloc(Math.ceil(taken / 8));
    for (let slot = 0; slot < taken; slot++) bits[slot >> 3] = (bits[slot >> 3] ?? 0) | (0x80 >> (slot & 7));
    await this.#client.set(this.#bitmap, bits);
  }

  async register(
    node: string,
    slots: number,
    records: readonly RawEntry[],
  ): Promise<{ slot: number; tries: number }> {
    const args = [this.#hash, this.#bitmap, node, slots, ...records.flat()];
    const slot = Number(await this.#client.evalsha(this.#scripts.register, 2, ...args));
    if (slot < 0) throw new Error("no slot is free");
    return { slot, tries: 1 };
  }

  async heartbeat(key: string, ttlMs: number): Promise<void> {
    const beat = () => this.#client.zadd(this.#alive, Date.now() + ttlMs, key);
    await beat();
    this.#timers.push(setInterval(() => void beat().catch(() => {}), ttlMs / 3));
  }

  /** To a stream, as a hash tells nobody of its changes. */
  async put(key: string, value: string): Promise<void> {
    await this.#client.xadd(`${this.#hash}#${key}`, "MAXLEN", "~", 1_000, "*", "value", value);
  }

  async follow(key: string, take: () => void): Promise<void> {
    const stream = `${this.#hash}#${key}`;
    const follower = this.#client.duplicate({ blockingTimeout: 0 });
    follower.on("error", () => {});
    this.#followers.push(follower);
    await follower.connect();
    void this.#read(follower, stream, take);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    for (const client of [this.#client, ...this.#followers]) client.disconnect();
  }

  async #read(follower: Redis, stream: string, take: () => void): Promise<void> {
    let after = "0";
    while (!this.#closed) {
      try {
        const reply = (await follower.call("XREAD", ["BLOCK", 1_000, "STREAMS", stream, after])) as
          | [string, [string, string[]][]][]
          | null;
        for (const [id] of reply?.[0]?.[1] ?? []) {
          after = id;
          take();
        }
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }
}
