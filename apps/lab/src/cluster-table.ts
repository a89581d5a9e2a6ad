import {
  decode,
  leaseSchema,
  listAll,
  nodeSchema,
  parseAddress,
  prefixes,
  type Store,
} from "@cocoon-net/core";
import Table from "cli-table3";
import { paint } from "./paint.ts";

/** Nodes with the subnets they own now and their leases, as they stand in the store. At most 80 columns wide. */
export async function clusterTable(store: Store): Promise<string> {
  const list = async (prefix: string) => (await listAll(store, prefix)).entries;
  const [nodes, pool, alive, subnets] = await Promise.all([
    list(prefixes.nodes),
    list(prefixes.pool),
    list(prefixes.alive),
    list(prefixes.subnets),
  ]);
  const living = new Set(alive.map(({ key }) => key.slice(prefixes.alive.length)));
  const owned = new Map(
    subnets.map(({ key, value }) => [key.slice(prefixes.subnets.length), JSON.parse(value) as string]),
  );
  const leases = pool.map((entry) => ({
    address: entry.key.slice(prefixes.pool.length),
    ...decode(leaseSchema, entry),
  }));
  leases.sort((a, b) => parseAddress(a.address) - parseAddress(b.address));
  const table = new Table({
    head: ["node", "status", "subnet", "leases"].map(paint.bold),
    style: { head: [], border: [] },
  });
  for (const entry of nodes) {
    const node = entry.key.slice(prefixes.nodes.length);
    const { status } = decode(nodeSchema, entry);
    const subnet = owned.get(node);
    const style = subnet === undefined ? paint.dim : String;
    const own = leases.filter((lease) => lease.node === node);
    table.push([
      style(node),
      subnet === undefined ? style(status) : statusText(status, living.has(node)),
      style(subnet ?? "-"),
      own.map(({ address, mac, hostname = "" }) => `${address} ${mac} ${hostname}`.trimEnd()).join("\n") ||
        style("-"),
    ]);
  }
  return table.toString();
}

function statusText(status: string, alive: boolean): string {
  if (status !== "ready") return paint.yellow(status);
  return alive ? paint.green(status) : paint.yellow("silent");
}
