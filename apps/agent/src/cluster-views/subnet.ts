import {
  type CallOptions,
  decode,
  formatAddress,
  formatCidr,
  hostRange,
  keys,
  leaseSchema,
  type NodeRecord,
  NotFoundError,
  nodeSchema,
  parseCidr,
  prefixes,
  rangeOf,
  type Store,
} from "@cocoon-net/core";
import { renderFields } from "../output.ts";
import { ago, noSuchNode, readPrefix, type View, within } from "./view.ts";

/** How an address stands, with its cell in the map. */
const cells = {
  leased: "#",
  ended: "x",
  free: ".",
  reserved: " ",
} as const;

type AddressState = keyof typeof cells;

/** One node's subnet: who has it, how full it is, and a map with one cell an address. `which` is a node or a CIDR. */
export function subnetView(which: string): View {
  return {
    prefixes: [prefixes.nodes, prefixes.alive, prefixes.pool],
    async read(store, options) {
      const { node, record } = await findNode(store, which, options);
      const subnet = parseCidr(record.subnet);
      const inSubnet = within(record.subnet, "subnet");
      const [leases, alive] = await Promise.all([
        readPrefix(
          store,
          prefixes.pool,
          (address, entry) => (inSubnet(address) ? { address, ...decode(leaseSchema, entry) } : undefined),
          options,
        ),
        store.get(keys.alive(node), options),
      ]);
      const rows = leases.filter((lease) => lease !== undefined);
      const byAddress = new Map(rows.map((lease) => [lease.address, lease]));
      const hosts = hostRange(subnet);
      const stateOf = (address: number): AddressState => {
        if (address < hosts.first || address > hosts.last) return "reserved";
        const lease = byAddress.get(formatAddress(address));
        if (lease === undefined) return "free";
        return Date.parse(lease.expiry) > Date.now() ? "leased" : "ended";
      };
      return {
        data: { node, ...record, alive: alive.entry !== undefined, leases: rows },
        text() {
          const { first, last } = rangeOf(subnet);
          const states = Array.from({ length: last - first + 1 }, (_, index) => stateOf(first + index));
          const silent = alive.entry === undefined ? " (silent)" : "";
          const fields = renderFields([
            ["Subnet", formatCidr(subnet)],
            ["Node", `${node}, ${record.status}${silent}, updated ${ago(record.lastSeen)}`],
            ["Use", utilisation(states, record)],
          ]);
          return [fields, "", ...addressMap(first, states), legend].join("\n");
        },
      };
    },
  };
}

const legend = `${cells.leased} leased   ${cells.ended} lease ended   ${cells.free} free or not in the pool`;

async function findNode(
  store: Store,
  which: string,
  options: CallOptions,
): Promise<{ readonly node: string; readonly record: NodeRecord }> {
  if (!which.includes("/")) {
    const { entry } = await store.get(keys.node(which), options);
    if (entry) return { node: which, record: decode(nodeSchema, entry) };
    throw noSuchNode(
      which,
      store,
      isAddress(which)
        ? `a subnet is named with its prefix length, like ${which}/24; \`cocoon-net cluster ip ${which}\` is about one address`
        : undefined,
    );
  }
  const wanted = formatCidr(parseCidr(which, "subnet"));
  const nodes = await readPrefix(
    store,
    prefixes.nodes,
    (node, entry) => ({ node, record: decode(nodeSchema, entry) }),
    options,
  );
  const found = nodes.find(({ record }) => record.subnet === wanted && record.status !== "left");
  if (found) return found;
  throw new NotFoundError(`no node has the subnet ${wanted} in ${store.label}`, {
    hint: "`cocoon-net cluster subnets` lists them",
  });
}

function isAddress(text: string): boolean {
  return /^\d+\.\d+\.\d+\.\d+$/.test(text);
}

/** `[########------]  57 % of 140: 80 leased, 60 free`. The node says how large its pool is. */
function utilisation(states: readonly AddressState[], { pool }: NodeRecord): string {
  const leased = states.filter((state) => state === "leased").length;
  const size = pool?.size ?? states.filter((state) => state !== "reserved").length;
  const share = size === 0 ? 0 : Math.min(1, leased / size);
  const width = 40;
  const bar = "#".repeat(Math.round(share * width)).padEnd(width, "-");
  return `[${bar}] ${Math.round(share * 100)} % of ${size}: ${leased} leased, ${pool?.free ?? size - leased} free`;
}

const cellsInLine = 32;

/** Lines of 32 cells, each with its first address. */
function addressMap(first: number, states: readonly AddressState[]): string[] {
  const width = formatAddress(first + states.length - 1).length;
  const lines: string[] = [];
  for (let start = 0; start < states.length; start += cellsInLine) {
    const line = states.slice(start, start + cellsInLine).map((state) => cells[state]);
    lines.push(`${formatAddress(first + start).padEnd(width)}  ${line.join("")}`.trimEnd());
  }
  return lines;
}
