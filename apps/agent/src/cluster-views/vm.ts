import { decode, leaseSchema, NotFoundError, parseAddress, prefixes } from "@cocoon-net/core";
import { renderTable } from "../output.ts";
import { readPrefix, until, type View } from "./view.ts";

/** One VM: the addresses that it has leased. */
export function vmView(vm: string): View {
  return {
    prefixes: [prefixes.pool],
    async read(store, options) {
      const leases = await readPrefix(
        store,
        prefixes.pool,
        (address, entry) => {
          const lease = decode(leaseSchema, entry);
          return lease.vmID === vm ? { address, ...lease } : undefined;
        },
        options,
      );
      const rows = leases
        .filter((lease) => lease !== undefined)
        .sort((a, b) => parseAddress(a.address) - parseAddress(b.address));
      if (rows.length === 0) {
        throw new NotFoundError(`no lease in ${store.label} is of a VM "${vm}"`, {
          hint: "a lease has a VM once the VM engine has told the node's agent; `cluster leases` lists all",
        });
      }
      return {
        data: rows,
        text: () =>
          renderTable(rows, [
            { title: "ADDRESS", value: (row) => row.address },
            { title: "NODE", value: (row) => row.node },
            { title: "MAC", value: (row) => row.mac },
            { title: "HOST NAME", value: (row) => row.hostname ?? "-" },
            { title: "ENDS IN", value: (row) => until(row.expiry) },
          ]),
      };
    },
  };
}
