import {
  decode,
  type Entry,
  keys,
  type NodeStatus,
  nodeSchema,
  parseCidr,
  prefixes,
  readCluster,
} from "@cocoon-net/core";
import { renderFields } from "../output.ts";
import { eventsOf, eventTable } from "./events.ts";
import { readPrefix, type View } from "./view.ts";

const newestEvents = 12;

/** The name that `campaign` of core was given. */
function leaderOf({ value }: Entry): string {
  const { id }: { readonly id?: unknown } = JSON.parse(value);
  return String(id);
}

/** The cluster in a few lines: nodes by status, use, leader, and what happened last. */
export function overview(): View {
  return {
    prefixes: [
      prefixes.nodes,
      prefixes.alive,
      prefixes.slots,
      prefixes.quarantine,
      prefixes.intents,
      prefixes.events,
      keys.leader,
    ],
    async read(store, options) {
      const { config } = await readCluster(store, options);
      const count = (prefix: string) => readPrefix(store, prefix, () => 1, options);
      const [nodes, alive, slots, quarantine, intents, events, leader] = await Promise.all([
        readPrefix(store, prefixes.nodes, (node, entry) => ({ node, ...decode(nodeSchema, entry) }), options),
        readPrefix(store, prefixes.alive, (node) => node, options),
        count(prefixes.slots),
        count(prefixes.quarantine),
        count(prefixes.intents),
        eventsOf(store, options),
        store.get(keys.leader, options),
      ]);
      const living = new Set(alive);
      const byStatus: Partial<Record<NodeStatus, number>> = {};
      for (const { status } of nodes) byStatus[status] = (byStatus[status] ?? 0) + 1;
      const pools = nodes.flatMap(({ status, pool }) =>
        status === "left" || pool === undefined ? [] : [pool],
      );
      const total = 2 ** (config.nodePrefix - parseCidr(config.parentCIDR).prefix);
      const data = {
        parentCIDR: config.parentCIDR,
        nodes: byStatus,
        silent: nodes.filter(({ node, status }) => status === "ready" && !living.has(node)).length,
        slots: { total, owned: slots.length - quarantine.length, quarantined: quarantine.length },
        addresses: {
          pooled: pools.reduce((sum, { size }) => sum + size, 0),
          leased: pools.reduce((sum, { leased }) => sum + leased, 0),
        },
        intents: intents.length,
        leader: leader.entry === undefined ? null : leaderOf(leader.entry),
        events: events.slice(-newestEvents),
      };
      return {
        data,
        text() {
          const statuses = Object.entries(byStatus).map(([status, nodesOfIt]) => `${nodesOfIt} ${status}`);
          const silent = data.silent > 0 ? ` (${data.silent} of them silent)` : "";
          const fields = renderFields([
            ["Cluster", `${data.parentCIDR} in /${config.nodePrefix}, on ${config.platform}`],
            ["Nodes", `${statuses.join(", ") || "none"}${silent}`],
            ["Slots", `${data.slots.owned} owned, ${data.slots.quarantined} in quarantine, of ${total}`],
            ["Addresses", `${data.addresses.leased} leased of ${data.addresses.pooled}`],
            ["Jobs", String(data.intents)],
            ["Controller", data.leader === null ? "none leads" : `${data.leader} leads`],
          ]);
          return `${fields}\n\n${eventTable(data.events)}`;
        },
      };
    },
  };
}
