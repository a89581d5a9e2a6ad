import { readFile } from "node:fs/promises";
import { isDelivering } from "@cocoon-net/cloud-testkit";
import { decode, keys, leaseSchema, listAll, pause, prefixes, type WatchBatch } from "@cocoon-net/core";
import type { ChaosCluster } from "./chaos-cluster.ts";
import type { HistoryEntry } from "./history.ts";
import type { ChaosNode } from "./machine.ts";
import { newsOf } from "./store-news.ts";

/** An agent has had time to write what it knows, and to read what its last life knew. */
const calmEnoughMs = 5_000;
const readEveryMs = 1_000;

/** Writes down what store, cloud, agents and guests say while the run goes on. */
export class Recorder implements AsyncDisposable {
  readonly #cluster: ChaosCluster;
  readonly #history: HistoryEntry[] = [];
  readonly #stop = new AbortController();
  readonly #work: Promise<unknown>;
  /** Key → value, of the store. */
  readonly #known = new Map<string, string>();
  #revision = 0;
  /** Revisions that the store had come to, and when it was asked. */
  readonly #asked: { readonly revision: number; readonly at: number }[] = [];

  constructor(cluster: ChaosCluster) {
    this.#cluster = cluster;
    this.#work = Promise.allSettled([this.#watch(), this.#askRevision(), this.#readFiles()]);
  }

  note(entry: HistoryEntry): void {
    this.#history.push(entry);
  }

  fault(what: string, on: string, over: boolean): void {
    this.note({ kind: "fault", at: Date.now(), what, on, over });
  }

  /** What store and cloud say at rest. */
  async noteRest(): Promise<void> {
    const { store, nodes, fabric } = this.#cluster;
    const at = Date.now();
    for (const entry of (await listAll(store, prefixes.pool)).entries) {
      const { node, mac } = decode(leaseSchema, entry);
      this.note({ kind: "mirror", at, node, mac, ip: entry.key.slice(prefixes.pool.length) });
    }
    for (const eni of fabric.simulator.describeState().enis) {
      const node = nodes.find(({ instanceID }) => instanceID === eni.instanceID);
      if (!node || !isDelivering(eni)) continue;
      for (const { address } of eni.addresses)
        this.note({ kind: "delivered", at, node: node.name, ip: address });
    }
    this.note({ kind: "rest", at });
  }

  /** Everything, with what the guests have written down. */
  async history(): Promise<HistoryEntry[]> {
    const placed = this.#history.filter((entry) => entry.kind === "placed");
    const said = this.#cluster.nodes.flatMap(({ guests }) =>
      guests.map(async ({ name, logPath }) => {
        const text = await readFile(logPath, "utf8").catch(() => "");
        const places = placed.filter(({ guest }) => guest === name);
        return readGuestLog(text, (at) => places.findLast((place) => place.at <= at)?.node ?? "");
      }),
    );
    return [...this.#history, ...(await Promise.all(said)).flat()].toSorted((a, b) => a.at - b.at);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#work;
  }

  /** One watch of everything, so that what one transaction has done is seen at once. */
  async #watch(): Promise<void> {
    for await (const batch of this.#cluster.store.watch("", { signal: this.#stop.signal })) this.#see(batch);
  }

  #see(batch: WatchBatch): void {
    if (batch.type === "changes") {
      for (const change of batch.changes) {
        const { revision } = change.type === "put" ? { revision: change.entry.modRevision } : change;
        if (change.type === "put") this.#change(change.entry.key, change.entry.value, revision, revision);
        else this.#change(change.key, undefined, revision, revision);
      }
    } else {
      // In what order all this became true is not known any more.
      const { revision } = batch;
      const present = new Set(batch.entries.map(({ key }) => key));
      for (const key of [...this.#known.keys()]) {
        if (!present.has(key)) this.#change(key, undefined, revision, this.#revision + 1);
      }
      for (const { key, value, modRevision } of batch.entries)
        this.#change(key, value, revision, modRevision);
    }
    this.#revision = batch.revision;
  }

  /** `earliest`: the first revision at which it may have become so. */
  #change(key: string, value: string | undefined, revision: number, earliest: number): void {
    const old = this.#known.get(key);
    if (value === old) return;
    if (value === undefined) this.#known.delete(key);
    else this.#known.set(key, value);
    const at = Date.now();
    const notBefore = this.#asked.findLast((asked) => asked.revision < earliest)?.at ?? at;
    const asEntry = (text: string | undefined) => (text === undefined ? undefined : { key, value: text });
    const entry = newsOf(key, asEntry(old), asEntry(value), { at, notBefore, revision });
    if (entry) this.note(entry);
  }

  async #askRevision(): Promise<void> {
    for (;;) {
      const at = Date.now();
      const revision = await this.#cluster.store.get(keys.config).then(
        (answer) => answer.revision,
        () => undefined,
      );
      if (revision !== undefined) this.#asked.push({ revision, at });
      await pause(readEveryMs / 4, this.#stop.signal);
    }
  }

  async #readFiles(): Promise<void> {
    for (;;) {
      for (const node of this.#cluster.nodes) await this.#readFile(node);
      await pause(readEveryMs, this.#stop.signal);
    }
  }

  async #readFile(node: ChaosNode): Promise<void> {
    if (node.process.calmMs < calmEnoughMs) return;
    const at = Date.now();
    const leases = (await this.#cluster.leasesFile(node)).map(({ mac, ip }) => ({ mac, ip }));
    const cutOff = this.#cluster.isCutOff(node);
    if (node.process.calmMs < calmEnoughMs) return;
    this.note({ kind: "leases-file", at, node: node.name, leases, cutOff });
  }
}

/** Lines of assets/chaos-udhcpc.sh: time, what, guest, MAC, address, seconds. `nodeAt` says where the guest was then. */
export function readGuestLog(text: string, nodeAt: (at: number) => string): HistoryEntry[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line): HistoryEntry | undefined => {
      const [time, what, guest = "", mac = "", ip = "", seconds] = line.split(" ");
      const at = Number(time);
      if (what === "bound" || what === "renew") {
        const until = at + Number(seconds) * 1_000;
        return { kind: "lease", at, node: nodeAt(at), guest, mac, ip, until, renewal: what === "renew" };
      }
      if (what === "nak") return { kind: "lease-end", at, guest, reason: "refused" };
      if (what === "deconfig") return { kind: "lease-end", at, guest, reason: "deconfigured" };
      return undefined;
    })
    .filter((entry) => entry !== undefined);
}
