import { readFile } from "node:fs/promises";
import { decode, leaseSchema, listAll, pause, prefixes, quarantineSchema } from "@cocoon-net/core";
import type { ChaosCluster } from "./chaos-cluster.ts";
import type { HistoryEntry } from "./history.ts";

/** An agent has had time to write what it knows, and to read what its last life knew. */
const calmEnoughMs = 5_000;
const readEveryMs = 1_000;

/** Writes down what store, agents and guests say while the run goes on. */
export class Recorder implements AsyncDisposable {
  readonly #cluster: ChaosCluster;
  readonly #history: HistoryEntry[] = [];
  readonly #stop = new AbortController();
  readonly #work: Promise<unknown>;
  readonly #subnets = new Map<string, string>();

  constructor(cluster: ChaosCluster) {
    this.#cluster = cluster;
    this.#work = Promise.allSettled([this.#watchOwners(), this.#watchQuarantine(), this.#readFiles()]);
  }

  note(entry: HistoryEntry): void {
    this.#history.push(entry);
  }

  fault(what: string, on: string, over: boolean): void {
    this.note({ kind: "fault", at: Date.now(), what, on, over });
  }

  /** What the store says at rest. */
  async noteRest(): Promise<void> {
    const { store } = this.#cluster;
    const at = Date.now();
    for (const entry of (await listAll(store, prefixes.pool)).entries) {
      const { node, mac } = decode(leaseSchema, entry);
      this.note({ kind: "mirror", at, node, mac, ip: entry.key.slice(prefixes.pool.length) });
    }
    this.note({ kind: "rest", at });
  }

  /** Everything, with what the guests have written down. */
  async history(): Promise<HistoryEntry[]> {
    const said = this.#cluster.nodes.flatMap((node) =>
      node.guests.map(async ({ logPath }) => {
        const text = await readFile(logPath, "utf8").catch(() => "");
        return readGuestLog(text, node.name);
      }),
    );
    return [...this.#history, ...(await Promise.all(said)).flat()].toSorted((a, b) => a.at - b.at);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#work;
  }

  async #watchOwners(): Promise<void> {
    const prefix = prefixes.subnets;
    const put = (node: string, value: string, revision: number): void => {
      const subnet = JSON.parse(value) as string;
      this.#subnets.set(node, subnet);
      this.note({ kind: "owner", at: Date.now(), revision, node, subnet });
    };
    const remove = (node: string, revision: number): void => {
      this.#subnets.delete(node);
      this.note({ kind: "owner", at: Date.now(), revision, node });
    };
    for await (const batch of this.#cluster.store.watch(prefix, { signal: this.#stop.signal })) {
      if (batch.type === "changes") {
        for (const change of batch.changes) {
          if (change.type === "put")
            put(change.entry.key.slice(prefix.length), change.entry.value, change.entry.modRevision);
          else remove(change.key.slice(prefix.length), change.revision);
        }
        continue;
      }
      const present = new Set(batch.entries.map(({ key }) => key.slice(prefix.length)));
      for (const node of [...this.#subnets.keys()]) if (!present.has(node)) remove(node, batch.revision);
      for (const { key, value, modRevision } of batch.entries)
        put(key.slice(prefix.length), value, modRevision);
    }
  }

  async #watchQuarantine(): Promise<void> {
    for await (const batch of this.#cluster.store.watch(prefixes.quarantine, { signal: this.#stop.signal })) {
      const entries =
        batch.type === "snapshot"
          ? batch.entries
          : batch.changes.flatMap((change) => (change.type === "put" ? [change.entry] : []));
      for (const entry of entries) {
        const { node } = decode(quarantineSchema, entry);
        const subnet = entry.key.slice(prefixes.quarantine.length);
        this.note({ kind: "taken", at: Date.now(), node, subnet });
      }
    }
  }

  async #readFiles(): Promise<void> {
    for (;;) {
      for (const node of this.#cluster.nodes) {
        if (node.process.calmMs < calmEnoughMs) continue;
        const at = Date.now();
        const leases = (await this.#cluster.leasesFile(node)).map(({ mac, ip }) => ({ mac, ip }));
        if (node.process.calmMs >= calmEnoughMs)
          this.note({ kind: "leases-file", at, node: node.name, leases });
      }
      await pause(readEveryMs, this.#stop.signal);
    }
  }
}

/** Lines of assets/chaos-udhcpc.sh: time, what, guest, MAC, address, seconds. */
export function readGuestLog(text: string, node: string): HistoryEntry[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line): HistoryEntry | undefined => {
      const [time, what, guest = "", mac = "", ip = "", seconds] = line.split(" ");
      const at = Number(time);
      if (what === "bound" || what === "renew") {
        const until = at + Number(seconds) * 1_000;
        return { kind: "lease", at, node, guest, mac, ip, until, renewal: what === "renew" };
      }
      if (what === "nak") return { kind: "lease-end", at, guest, reason: "refused" };
      if (what === "deconfig") return { kind: "lease-end", at, guest, reason: "deconfigured" };
      return undefined;
    })
    .filter((entry) => entry !== undefined);
}
