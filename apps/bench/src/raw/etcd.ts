import { hash } from "node:crypto";
import { Etcd3, type ICompare, type IRequestOp } from "etcd3";
import type { Target } from "../target.ts";
import type { RawClient, RawEntry, RawFence } from "./client.ts";

/** As this project's. */
const pageSize = 10_000;
const candidates = 32;

/** etcd3 as it comes, but for a deadline and the limit of 4 MiB on answers. */
export async function openRawEtcd(target: Target): Promise<RawClient> {
  return new RawEtcd(target);
}

class RawEtcd implements RawClient {
  readonly #client: Etcd3;
  readonly #prefix: string;
  readonly #closers: (() => Promise<unknown>)[] = [];

  constructor({ host, port, prefix }: Target) {
    this.#prefix = `${prefix}/`;
    this.#client = new Etcd3({
      hosts: `http://${host}:${port}`,
      grpcOptions: { "grpc.max_receive_message_length": -1, "grpc.use_local_subchannel_pool": 1 },
      defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + 10_000 }),
    });
  }

  async claim(key: string, value: string): Promise<RawFence> {
    const { header } = await this.#client.kv.put({ key: this.#key(key), value: Buffer.from(value) });
    return { key, token: header.revision };
  }

  async write(fence: RawFence, entries: readonly RawEntry[]): Promise<void> {
    const { succeeded } = await this.#client.kv.txn({
      compare: [{ key: this.#key(fence.key), target: "Mod", result: "Equal", mod_revision: fence.token }],
      success: entries.map((entry) => this.#put(entry)),
    });
    if (!succeeded) throw new Error(`the fence ${fence.key} does not hold`);
  }

  async readAll(prefix: string, take: (key: string, value: string) => void): Promise<void> {
    const full = this.#prefix + prefix;
    const range_end = Buffer.from(`${full.slice(0, -1)}0`);
    let key = Buffer.from(full);
    let revision = "0";
    for (;;) {
      const answer = await this.#client.kv.range({ key, range_end, limit: pageSize, revision });
      for (const kv of answer.kvs) take(kv.key.toString("utf8", this.#prefix.length), kv.value.toString());
      const last = answer.kvs.at(-1);
      if (!answer.more || last === undefined) return;
      if (revision === "0") revision = answer.header.revision;
      key = Buffer.concat([last.key, Buffer.from([0])]);
    }
  }

  async occupySlots(taken: number): Promise<void> {
    const batch = 128;
    for (let start = 0; start < taken; start += batch) {
      const slots = Array.from({ length: Math.min(batch, taken - start) }, (_, index) => start + index);
      await this.#client.kv.txn({
        success: slots.map((slot) => this.#put([`slots/${slot}`, '{"node":"older","uid":"older"}'])),
      });
    }
  }

  /** The best of the designs measured: the node's hash first, then looks at 32 hashed candidates at a time. */
  async register(
    node: string,
    slots: number,
    records: readonly RawEntry[],
  ): Promise<{ slot: number; tries: number }> {
    const digest = hash("sha256", node, "buffer");
    const [start, step] = [digest.readUInt32BE(0), digest.readUInt32BE(4) | 1];
    const candidate = (attempt: number) => ((start + Math.imul(step, attempt)) >>> 0) % slots;
    let tries = 1;
    if (await this.#claimSlot(node, candidate(0), records)) return { slot: candidate(0), tries };
    for (let attempt = 1; attempt < slots; attempt += candidates) {
      const seen = Array.from({ length: candidates }, (_, index) => candidate(attempt + index));
      const { responses } = await this.#client.kv.txn({
        success: seen.map((slot) => ({
          request_range: { key: this.#key(`slots/${slot}`), keys_only: true },
        })),
      });
      const free = seen.filter((_, index) => responses[index]?.response_range?.kvs.length === 0);
      for (const slot of free.slice(0, 4)) {
        tries += 1;
        if (await this.#claimSlot(node, slot, records)) return { slot, tries };
      }
    }
    throw new Error("no slot is free");
  }

  async heartbeat(key: string, ttlMs: number): Promise<void> {
    const lease = this.#client.lease(Math.ceil(ttlMs / 1_000));
    lease.on("lost", () => {});
    this.#closers.push(() => lease.revoke());
    await lease.put(this.#prefix + key).value("{}");
  }

  async put(key: string, value: string): Promise<void> {
    await this.#client.kv.put(
      { key: this.#key(key), value: Buffer.from(value) },
      { deadline: Date.now() + 2_000 },
    );
  }

  async follow(key: string, take: () => void): Promise<void> {
    const watcher = await this.#client
      .watch()
      .key(this.#prefix + key)
      .create();
    watcher.on("put", take);
    watcher.on("error", () => {});
    this.#closers.push(() => watcher.cancel());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#closers.map((close) => close().catch(() => {})));
    this.#client.close();
  }

  async #claimSlot(node: string, slot: number, records: readonly RawEntry[]): Promise<boolean> {
    const absent = (key: string): ICompare => ({
      key: this.#key(key),
      target: "Create",
      result: "Equal",
      create_revision: "0",
    });
    const { succeeded } = await this.#client.kv.txn({
      compare: [absent(`subnets/${node}`), absent(`slots/${slot}`)],
      success: [...records, [`slots/${slot}`, JSON.stringify({ node, uid: node })] as const].map((entry) =>
        this.#put(entry),
      ),
    });
    return succeeded;
  }

  #put([key, value]: RawEntry): IRequestOp {
    return { request_put: { key: this.#key(key), value: Buffer.from(value) } };
  }

  #key(key: string): Buffer {
    return Buffer.from(this.#prefix + key);
  }
}
