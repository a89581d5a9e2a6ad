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

/** Why the leader takes nothing from silent nodes, as it last said; null where it does, or nobody leads. */
function heldBy(leader: Entry | undefined, proof: Entry | undefined): string | null {
  if (!leader || !proof || leaderOf(leader) !== leaderOf(proof)) return null;
  const { held }: { readonly held?: unknown } = JSON.parse(proof.value);
  return typeof held === "string" ? held : null;
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
      keys.controller,
    ],
    async read(store, options) {
      const { config } = await readCluster(store, options);
      const count = (prefix: string) => readPrefix(store, prefix, () => 1, options);
      const [nodes, alive, slots, quarantine, intents, events, leader, proof] = await Promise.all([
        readPrefix(store, prefixes.nodes, (node, entry) => ({ node, ...decode(nodeSchema, entry) }), options),
        readPrefix(store, prefixes.alive, (node) => node, options),
        count(prefixes.slots),
        count(prefixes.quarantine),
        count(prefixes.intents),
        eventsOf(store, options),
        store.get(keys.leader, options),
        store.get(keys.controller, options),
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
        reclaimHeld: heldBy(leader.entry, proof.entry),
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
            ...(data.reclaimHeld === null ? [] : [["Reclaim", `held: ${data.reclaimHeld}`] as const]),
          ]);
          return `${fields}\n\n${eventTable(data.events)}`;
        },
      };
    },
  };
}
