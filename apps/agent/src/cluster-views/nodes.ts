import { decode, type NodeStatus, nodeSchema, prefixes } from "@cocoon-net/core";
import { renderTable } from "../output.ts";
import { ago, noSuchNode, readPrefix, type View, within } from "./view.ts";

export interface NodesFilter {
  readonly node?: string | undefined;
  readonly status?: NodeStatus | undefined;
  readonly subnet?: string | undefined;
}

/** Every node: status, subnet, use. */
export function nodesView(filter: NodesFilter): View {
  const inSubnet = within(filter.subnet, "--subnet");
  return {
    prefixes: [prefixes.nodes, prefixes.alive],
    async read(store, options) {
      const [nodes, alive, subnets] = await Promise.all([
        readPrefix(store, prefixes.nodes, (node, entry) => ({ node, ...decode(nodeSchema, entry) }), options),
        readPrefix(store, prefixes.alive, (node) => node, options),
        readPrefix(store, prefixes.subnets, (node, entry) => [node, entry.modRevision] as const, options),
      ]);
      if (filter.node !== undefined && !nodes.some(({ node }) => node === filter.node)) {
        throw noSuchNode(filter.node, store);
      }
      const living = new Set(alive);
      const epochs = new Map(subnets);
      const rows = nodes
        .filter(({ node }) => filter.node === undefined || node === filter.node)
        .filter(({ status }) => filter.status === undefined || status === filter.status)
        .filter(({ subnet }) => inSubnet(subnet))
        .map((row) => ({ ...row, alive: living.has(row.node), epoch: epochs.get(row.node) ?? null }));
      return {
        data: rows,
        text: () =>
          renderTable(rows, [
            { title: "NODE", value: (row) => row.node },
            {
              title: "STATUS",
              value: (row) => (row.status === "ready" && !row.alive ? "ready (silent)" : row.status),
            },
            { title: "SUBNET", value: (row) => (row.status === "left" ? "-" : row.subnet) },
            { title: "LEASED", value: (row) => (row.pool ? `${row.pool.leased}/${row.pool.size}` : "-") },
            { title: "ZONE", value: (row) => row.zone ?? "-" },
            { title: "UID", value: (row) => row.uid },
            { title: "VERSION", value: (row) => row.agentVersion },
            { title: "UPDATED", value: (row) => ago(row.lastSeen) },
          ]),
      };
    },
  };
}
