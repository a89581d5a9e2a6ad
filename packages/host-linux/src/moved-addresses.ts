// What the kernel needs where guests live outside the subnet that their addresses are of.
//
// 1. The host itself says what was done: routes are marked by their protocol, rules by their comment, and a gateway of
//    another subnet is the only /32 on the bridge. So whatever is no longer needed goes, also after a crash.
// 2. A route that replaces another leaves no gap in which packets would go the wrong way.

import { DisposeStack, formatAddress, NotFoundError, parseAddress } from "@cocoon-net/core";
import { type CallOptions, type HostNetwork, openHostNetwork } from "./host-network.ts";
import { checkInterfaceName } from "./interface-name.ts";
import { Iptables, type Rule } from "./iptables.ts";
import { describeSysctl, ensureSysctl } from "./sysctl.ts";

export const MOVED_COMMENT: string = "cocoon-net-moved";

export interface MovedPlan {
  /** Default `cni0`. */
  readonly bridge?: string | undefined;
  readonly primaryNIC?: string | undefined;
  /** Addresses of this host's subnet that other nodes serve: the VPC delivers them there. */
  readonly away: readonly string[];
  /** Guests of other subnets that this host serves, each with the router that it knows. */
  readonly guests: readonly { readonly address: string; readonly gateway: string }[];
  /** false leaves iptables alone. Default true. */
  readonly manageIptables?: boolean | undefined;
}

export interface MovedOptions extends CallOptions {
  /** Used, and left open. Default: one is opened for the call. */
  readonly network?: HostNetwork | undefined;
  /** The iptables program. Default `iptables`. */
  readonly iptables?: string | undefined;
}

/**
 * Makes the host do what the plan says about moved addresses, and nothing else about any. Safe to repeat. A guest's own
 * route to the bridge is the DHCP server's.
 *
 * While there are any, the bridge answers ARP for what is behind the host (proxy_arp): a guest takes the rest of its
 * subnet to be on its link, wherever that is.
 *
 * @returns one line per change
 */
export async function applyMoved(plan: MovedPlan, options: MovedOptions = {}): Promise<string[]> {
  const { signal } = options;
  const bridge = checkInterfaceName(plan.bridge ?? "cni0");
  const away = new Set(plan.away.map((ip) => formatAddress(parseAddress(ip))));
  const gateways = new Set(plan.guests.map(({ gateway }) => `${formatAddress(parseAddress(gateway))}/32`));
  await using stack = new DisposeStack();
  const network = options.network ?? stack.use(openHostNetwork());
  const changes: string[] = [];

  const routes = await network.listRoutesAway({ signal });
  const addresses = await network.listAddresses(bridge, { signal }).catch((error: unknown) => {
    // What was on the bridge has gone with it.
    if (error instanceof NotFoundError && plan.guests.length === 0) return undefined;
    throw error;
  });
  const standing = (addresses ?? []).filter((address) => address.endsWith("/32"));
  const wasNeeded = routes.length + standing.length > 0;

  for (const address of away) {
    await network.replaceRouteAway(address, plan.primaryNIC, { signal });
    if (!routes.includes(address)) changes.push(`routed ${address} away`);
  }
  for (const address of routes) {
    if (away.has(address)) continue;
    if (await network.deleteRouteAway(address, { signal })) changes.push(`routed ${address} here again`);
  }
  for (const gateway of gateways) {
    if (await network.ensureAddress(gateway, bridge, { signal })) {
      changes.push(`set address ${gateway} on ${bridge}`);
    }
  }
  for (const gateway of standing) {
    if (gateways.has(gateway)) continue;
    if (await network.deleteAddress(gateway, bridge, { signal })) {
      changes.push(`removed address ${gateway} from ${bridge}`);
    }
  }
  const isNeeded = away.size + gateways.size > 0;
  if (addresses !== undefined && (isNeeded || wasNeeded)) {
    const sysctl = { path: `net/ipv4/conf/${bridge}/proxy_arp`, value: isNeeded ? "1" : "0" };
    if (await ensureSysctl(sysctl)) changes.push(`set sysctl ${describeSysctl(sysctl)}`);
  }
  if (plan.manageIptables ?? true) {
    const iptables = new Iptables({ iptables: options.iptables, signal });
    changes.push(
      ...(await applyRules(
        iptables,
        plan.guests.map(({ address }) => address),
        bridge,
      )),
    );
  }
  return changes;
}

/**
 * Guests reach what is outside the VPC by the host's address, as the host's own guests do. What has begun elsewhere keeps
 * its own: a connection that went on by another address would be another one.
 */
async function applyRules(iptables: Iptables, guests: readonly string[], bridge: string): Promise<string[]> {
  const tagged = (await iptables.list("nat", "POSTROUTING")).filter(({ spec }) =>
    spec.includes(MOVED_COMMENT),
  );
  const sourceOf = ({ spec }: Rule): string => spec[spec.indexOf("-s") + 1] ?? "";
  const wanted = new Set(guests.map((address) => `${address}/32`));
  const changes: string[] = [];
  for (const rule of tagged) {
    if (wanted.has(sourceOf(rule))) continue;
    await iptables.delete(rule);
    changes.push(`removed iptables rule nat ${rule.chain} ${rule.spec.join(" ")}`);
  }
  for (const source of wanted) {
    const from = ["-s", source, "!", "-o", bridge];
    const mark = ["-m", "comment", "--comment", MOVED_COMMENT];
    const specs = [
      [...from, "-p", "tcp", "!", "--syn", ...mark, "-j", "ACCEPT"],
      [...from, ...mark, "-j", "MASQUERADE"],
    ];
    for (const spec of specs) {
      const rule: Rule = { table: "nat", chain: "POSTROUTING", spec };
      if (await iptables.ensure(rule, "last")) {
        changes.push(`added iptables rule nat POSTROUTING ${spec.join(" ")}`);
      }
    }
  }
  return changes;
}
