import {
  decode,
  eventSchema,
  keys,
  leaseSchema,
  listAll,
  nodeSchema,
  parseAddress,
  prefixes,
  type Store,
} from "@cocoon-net/core";
import Table from "cli-table3";
import pc from "picocolors";

/** Prints what happens, with the seconds since the start in front. */
export class Timeline {
  readonly #start = performance.now();

  get seconds(): number {
    return (performance.now() - this.#start) / 1_000;
  }

  step(text: string): void {
    this.#print(pc.bold(pc.cyan("▶")), pc.bold(text));
  }

  done(text: string): void {
    this.#print(pc.green("✓"), text);
  }

  failed(text: string): void {
    this.#print(pc.red("✗"), pc.red(text));
  }

  /** Something that the cluster did by itself. */
  event(text: string): void {
    this.#print(pc.yellow("●"), pc.dim(text));
  }

  text(text: string): void {
    console.log(text);
  }

  #print(mark: string, text: string): void {
    console.log(`${pc.dim(`${this.seconds.toFixed(1).padStart(6)} s`)}  ${mark} ${text}`);
  }
}

/** Follows the cluster's own event log and who leads, until the signal aborts. */
export async function followEvents(store: Store, timeline: Timeline, signal: AbortSignal): Promise<void> {
  const events = async (): Promise<void> => {
    for await (const batch of store.watch(prefixes.events, { signal })) {
      const entries =
        batch.type === "snapshot"
          ? batch.entries
          : batch.changes.flatMap((change) => (change.type === "put" ? [change.entry] : []));
      for (const entry of entries) timeline.event(decode(eventSchema, entry).message);
    }
  };
  const leaders = async (): Promise<void> => {
    for await (const batch of store.watch(keys.leader, { signal })) {
      const entries =
        batch.type === "snapshot"
          ? batch.entries
          : batch.changes.flatMap((change) => (change.type === "put" ? [change.entry] : []));
      for (const { value } of entries) {
        timeline.event(`${(JSON.parse(value) as { id: string }).id} leads the controllers`);
      }
    }
  };
  await Promise.all([events(), leaders()]);
}

/** One table of nodes with their leases, as they stand in the store. */
export async function clusterTable(store: Store): Promise<string> {
  const [nodes, pool, alive] = await Promise.all(
    [prefixes.nodes, prefixes.pool, prefixes.alive].map(
      async (prefix) => (await listAll(store, prefix)).entries,
    ),
  );
  const living = new Set(alive?.map((entry) => entry.key.slice(prefixes.alive.length)));
  const leases = (pool ?? []).map((entry) => ({
    address: entry.key.slice(prefixes.pool.length),
    ...decode(leaseSchema, entry),
  }));
  leases.sort((a, b) => parseAddress(a.address) - parseAddress(b.address));
  const table = new Table({
    head: ["node", "status", "subnet", "alive", "leases"].map(pc.cyan),
    style: { head: [], border: pc.isColorSupported ? ["dim"] : [] },
  });
  for (const entry of nodes ?? []) {
    const node = entry.key.slice(prefixes.nodes.length);
    const record = decode(nodeSchema, entry);
    const own = leases.filter((lease) => lease.node === node);
    table.push([
      node,
      record.status === "ready" ? pc.green(record.status) : pc.yellow(record.status),
      record.subnet,
      living.has(node) ? pc.green("yes") : pc.red("no"),
      own.map((lease) => `${lease.address}  ${lease.mac}  ${lease.hostname ?? ""}`.trimEnd()).join("\n") ||
        "-",
    ]);
  }
  return table.toString();
}
