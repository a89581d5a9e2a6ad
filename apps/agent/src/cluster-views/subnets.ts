import { decode, parseCidr, prefixes, quarantineSchema, readCluster, slotSchema } from "@cocoon-net/core";
import { renderTable } from "../output.ts";
import type { SlotState } from "./slot-states.ts";
import { readPrefix, until, type View, within } from "./view.ts";

export interface SubnetsFilter {
  readonly node?: string | undefined;
  readonly status?: SlotState | undefined;
  readonly subnet?: string | undefined;
}

/** Every slot that is owned or in quarantine. */
export function subnetsView(filter: SubnetsFilter): View {
  const inSubnet = within(filter.subnet, "--subnet");
  return {
    prefixes: [prefixes.slots, prefixes.quarantine],
    async read(store, options) {
      const { config } = await readCluster(store, options);
      const [slots, quarantine] = await Promise.all([
        readPrefix(store, prefixes.slots, (slot, entry) => ({ slot, ...decode(slotSchema, entry) }), options),
        readPrefix(
          store,
          prefixes.quarantine,
          (slot, entry) => [slot, decode(quarantineSchema, entry)] as const,
          options,
        ),
      ]);
      const held = new Map(quarantine);
      const rows = slots
        .map(({ slot, node, uid }) => ({
          slot,
          state: node === "" ? "quarantine" : "owned",
          node: node || (held.get(slot)?.node ?? ""),
          uid,
          until: held.get(slot)?.until ?? null,
        }))
        .filter((row) => filter.node === undefined || row.node === filter.node)
        .filter((row) => filter.status === undefined || row.state === filter.status)
        .filter((row) => inSubnet(row.slot))
        .sort((a, b) => parseCidr(a.slot).base - parseCidr(b.slot).base);
      const total = 2 ** (config.nodePrefix - parseCidr(config.parentCIDR).prefix);
      return {
        data: rows,
        text() {
          const table = renderTable(rows, [
            { title: "SLOT", value: (row) => row.slot },
            { title: "STATE", value: (row) => row.state },
            { title: "NODE", value: (row) => row.node },
            { title: "UID", value: (row) => row.uid },
            { title: "FREE IN", value: (row) => (row.until === null ? "-" : until(row.until)) },
          ]);
          const use = `${slots.length} of ${total} /${config.nodePrefix} of ${config.parentCIDR} in use`;
          return `${table}\n${use}`;
        },
      };
    },
  };
}
