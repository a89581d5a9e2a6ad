import type { ClusterView } from "./cluster-config.ts";
import { ExhaustedError } from "./errors.ts";
import { type Cidr, parseCidr } from "./ipv4.ts";
import { prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import { candidateSlot, SlotTable } from "./slots.ts";
import type { CallOptions, Store } from "./store.ts";

/** Claims that are tried on one look at the slots: what the others take meanwhile is learned by losing to them. */
const claimsPerLook = 8;
const looks = 64;

/**
 * Free slots for a node to try, until it has got one. The lowest comes first, because people like to see .0, .1, .2.
 * Nodes that lose that race spread out by the hash of their names over what else is free, or a thousand of them
 * would collide a thousand times. @throws {ExhaustedError} when nothing is free.
 */
export async function* freeSlots(
  store: Store,
  cluster: ClusterView,
  node: string,
  options: CallOptions,
): AsyncGenerator<Cidr, void, void> {
  const layout = { parent: cluster.parent, nodePrefix: cluster.config.nodePrefix };
  let attempt = 0;
  for (let look = 0; look < looks; look++) {
    const table = await readSlots(store, cluster, options);
    if (table.free === 0) throw exhausted(cluster, table);
    for (let claim = 0; claim < claimsPerLook; claim++) {
      let slot = table.lowestFree();
      if (!slot) break;
      if (look + claim > 0) {
        do slot = candidateSlot(layout, node, attempt++);
        while (!table.isFree(slot));
      }
      yield slot;
      table.take(slot);
    }
  }
}

/** @throws {ExhaustedError} when nothing is free. */
export async function lowestFreeSlot(
  store: Store,
  cluster: ClusterView,
  options: CallOptions,
): Promise<Cidr> {
  const table = await readSlots(store, cluster, options);
  const slot = table.lowestFree();
  if (!slot) throw exhausted(cluster, table);
  return slot;
}

async function readSlots(store: Store, cluster: ClusterView, options: CallOptions): Promise<SlotTable> {
  const table = new SlotTable(cluster.parent, cluster.config.nodePrefix, cluster.reserved);
  for (const entry of (await listAll(store, prefixes.slots, options)).entries) {
    table.take(parseCidr(entry.key.slice(prefixes.slots.length)));
  }
  return table;
}

function exhausted({ config }: ClusterView, { total }: SlotTable): ExhaustedError {
  return new ExhaustedError(
    `no free /${config.nodePrefix} is left in ${config.parentCIDR} (${total} slots)`,
    { hint: "reclaim nodes that are gone, or wait for a quarantine to end (`cocoon-net cluster subnets`)" },
  );
}
