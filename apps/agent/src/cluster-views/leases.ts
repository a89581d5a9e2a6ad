import { decode, type LeaseRecord, leaseSchema, parseAddress, prefixes } from "@cocoon-net/core";
import { renderTable } from "../output.ts";
import { readPrefix, until, type View, within } from "./view.ts";

export interface LeasesFilter {
  readonly node?: string | undefined;
  readonly subnet?: string | undefined;
  readonly vm?: string | undefined;
}

/** Every lease, ascending by address. */
export function leasesView(filter: LeasesFilter): View {
  const inSubnet = within(filter.subnet, "--subnet");
  return {
    prefixes: [prefixes.pool],
    async read(store, options) {
      const leases = await readPrefix(
        store,
        prefixes.pool,
        (address, entry) => {
          const lease = decode(leaseSchema, entry);
          const shown =
            (filter.node === undefined || lease.node === filter.node) &&
            (filter.vm === undefined || lease.vmID === filter.vm) &&
            inSubnet(address);
          return shown ? { address, ...lease } : undefined;
        },
        options,
      );
      const rows = leases
        .filter((row): row is LeaseRecord & { readonly address: string } => row !== undefined)
        .sort((a, b) => parseAddress(a.address) - parseAddress(b.address));
      return {
        data: rows,
        text: () =>
          renderTable(rows, [
            { title: "ADDRESS", value: (row) => row.address },
            { title: "NODE", value: (row) => row.node },
            { title: "MAC", value: (row) => row.mac },
            { title: "HOST NAME", value: (row) => row.hostname ?? "-" },
            { title: "VM", value: (row) => row.vmID ?? "-" },
            { title: "ENDS IN", value: (row) => until(row.expiry) },
          ]),
      };
    },
  };
}
