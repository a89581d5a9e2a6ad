import {
  blockOf,
  contains,
  decode,
  formatAddress,
  formatCidr,
  InvalidError,
  keys,
  leaseSchema,
  type MovedRecord,
  movedSchema,
  nodeSchema,
  parseAddress,
  prefixes,
  quarantineSchema,
  readCluster,
  slotSchema,
} from "@cocoon-net/core";
import { renderFields } from "../output.ts";
import { eventsOf, eventTable } from "./events.ts";
import { ago, until, type View } from "./view.ts";

/** One address: who has it, by which lease, and what the event log says of its subnet. */
export function addressView(text: string): View {
  const address = formatAddress(parseAddress(text));
  const span = { base: parseAddress(address), prefix: 32 };
  return {
    prefixes: [
      prefixes.slots,
      prefixes.pool,
      prefixes.moved,
      prefixes.nodes,
      prefixes.quarantine,
      prefixes.events,
    ],
    async read(store, options) {
      const { config, parent } = await readCluster(store, options);
      if (!contains(parent, span)) {
        throw new InvalidError(`${address} is outside the cluster's ${config.parentCIDR}`);
      }
      const slot = formatCidr(blockOf(span.base, config.nodePrefix));
      const { reads } = await store.txn(
        {
          then: [
            { get: keys.slot(slot) },
            { get: keys.pool(address) },
            { get: keys.quarantine(slot) },
            { get: keys.moved(address) },
          ],
        },
        options,
      );
      const [slotEntry, leaseEntry, quarantineEntry, movedEntry] = reads;
      const owner = slotEntry && decode(slotSchema, slotEntry);
      const lease = leaseEntry && decode(leaseSchema, leaseEntry);
      const quarantine = quarantineEntry && decode(quarantineSchema, quarantineEntry);
      const moved = movedEntry && decode(movedSchema, movedEntry);
      const [nodeEntry, aliveEntry] = owner?.node
        ? (
            await store.txn(
              { then: [{ get: keys.node(owner.node) }, { get: keys.alive(owner.node) }] },
              options,
            )
          ).reads
        : [];
      const record = nodeEntry && decode(nodeSchema, nodeEntry);
      const events = await eventsOf(store, { ...options, ip: address });
      const since = events.findLast(
        ({ type, node }) => type === "node-registered" && node === owner?.node,
      )?.time;
      const data = {
        address,
        slot,
        subnet: record?.subnet ?? null,
        node: owner?.node || null,
        uid: owner?.uid ?? null,
        since: since ?? null,
        status: record?.status ?? null,
        alive: aliveEntry !== undefined,
        lease: lease ?? null,
        moved: moved ?? null,
        quarantine: quarantine ?? null,
        events,
      };
      return {
        data,
        text() {
          const fields: (readonly [string, string])[] = [["Address", address]];
          if (data.node === null) {
            fields.push(["Subnet", `${slot}, ${quarantine ? "in quarantine" : "no node's"}`]);
          } else {
            const silent = data.alive ? "" : " (silent)";
            const how = since === undefined ? "" : `, since ${since} (${ago(since)})`;
            fields.push(
              ["Subnet", data.subnet ?? slot],
              ["Node", `${data.node}, ${data.status}${silent}${how}`],
            );
          }
          if (quarantine) {
            const { reason, node, until: end } = quarantine;
            fields.push(["Quarantine", `${until(end)} to go; ${reason}; it was ${node}'s`]);
          }
          if (lease) {
            const vm = lease.vmID === undefined ? "" : `, VM ${lease.vmID}`;
            const host = lease.hostname === undefined ? "" : `, ${lease.hostname}`;
            fields.push([
              "Lease",
              `${lease.mac}${host}${vm}, on ${lease.node}, ends in ${until(lease.expiry)}`,
            ]);
          } else fields.push(["Lease", "none"]);
          if (moved) fields.push(["Moved", describeMove(moved)]);
          return [renderFields(fields), "", eventTable(events)].join("\n");
        },
      };
    },
  };
}

function describeMove({ home, node, uid, move }: MovedRecord): string {
  const server = uid === "" ? "nobody" : node;
  const at = server === home ? `${home} serves it, its home` : `${server} serves it, its home is ${home}`;
  return move === undefined ? at : `${at}; on its way from ${move.from} to ${move.to} (${move.intent})`;
}
