import {
  type CallOptions,
  decode,
  type Entry,
  type LeaseRecord,
  leaseSchema,
  NotFoundError,
  parseAddress,
  prefixes,
  type Store,
} from "@cocoon-net/core";
import { type Column, renderTable } from "../output.ts";
import { type Picture, readPrefix, requireNode, until, type View, within } from "./view.ts";

export interface LeasesFilter {
  readonly node?: string | undefined;
  readonly subnet?: string | undefined;
  readonly vm?: string | undefined;
}

interface Row extends LeaseRecord {
  readonly address: string;
}

/** Every lease, ascending by address. */
export function leasesView(filter: LeasesFilter): View {
  const inSubnet = within(filter.subnet, "--subnet");
  return {
    prefixes: [prefixes.pool],
    async read(store, options) {
      const rows = await readLeases(store, options, ({ address, node, vmID }) => {
        return (
          (filter.node === undefined || node === filter.node) &&
          (filter.vm === undefined || vmID === filter.vm) &&
          inSubnet(address)
        );
      });
      if (rows.length === 0) await requireNode(filter.node, store, options);
      return picture(rows, { withVM: true });
    },
  };
}

/** One VM: the addresses that it has leased. */
export function vmView(vm: string): View {
  return {
    prefixes: [prefixes.pool],
    async read(store, options) {
      const rows = await readLeases(store, options, ({ vmID }) => vmID === vm);
      if (rows.length > 0) return picture(rows, { withVM: false });
      throw new NotFoundError(`no lease in ${store.label} is of a VM "${vm}"`, {
        hint: "a lease has a VM once the VM engine has told the node's agent; `cluster leases` lists all",
      });
    },
  };
}

async function readLeases(
  store: Store,
  options: CallOptions,
  isShown: (row: Row) => boolean,
): Promise<readonly Row[]> {
  const read = (address: string, entry: Entry): Row | undefined => {
    const row = { address, ...decode(leaseSchema, entry) };
    return isShown(row) ? row : undefined;
  };
  return (await readPrefix(store, prefixes.pool, read, options))
    .filter((row) => row !== undefined)
    .sort((a, b) => parseAddress(a.address) - parseAddress(b.address));
}

function picture(rows: readonly Row[], { withVM }: { readonly withVM: boolean }): Picture {
  const vm: Column<Row> = { title: "VM", value: (row) => row.vmID ?? "-" };
  return {
    data: rows,
    text: () =>
      renderTable(rows, [
        { title: "ADDRESS", value: (row) => row.address },
        { title: "NODE", value: (row) => row.node },
        { title: "MAC", value: (row) => row.mac },
        { title: "HOST NAME", value: (row) => row.hostname ?? "-" },
        ...(withVM ? [vm] : []),
        { title: "ENDS IN", value: (row) => until(row.expiry) },
      ]),
  };
}
