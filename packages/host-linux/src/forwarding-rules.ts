// The rules that let VMs reach the cloud's network and keep them from what they must not reach.
//
// 1. A rule that is there is never added again, and rules of others are neither moved nor removed.
// 2. Drop targets change without a gap: the wanted rules go in before the unwanted ones, known by their comment, go out.
// 3. Nothing is touched before every name and range has been checked.

import { blockOf, formatCidr, InvalidError, parseAddress } from "@cocoon-net/core";
import { checkInterfaceName } from "./interface-name.ts";
import { Iptables, type IptablesOptions, type Rule } from "./iptables.ts";

export const DROP_COMMENT: string = "cocoon-net-drop";

export interface ForwardingPlan {
  readonly bridge: string;
  readonly subnet: string;
  readonly secondaryNICs: readonly string[];
  /** IPv4 blocks that VMs must not reach. */
  readonly dropCIDRs: readonly string[];
}

export interface ForwardingRules {
  /** Accept and masquerade rules, in the order in which they are appended. */
  readonly passing: readonly Rule[];
  /** In the order in which they stand at the head of FORWARD. */
  readonly dropping: readonly Rule[];
}

/** @throws {InvalidError} on a malformed interface name or IPv4 block */
export function forwardingRules(plan: ForwardingPlan): ForwardingRules {
  const bridge = checkInterfaceName(plan.bridge);
  const subnet = normalBlock(plan.subnet, "subnet");
  const accept = (from: string, to: string): Rule => forward("-i", from, "-o", to, "-j", "ACCEPT");
  const passing: Rule[] = plan.secondaryNICs
    .map(checkInterfaceName)
    .flatMap((nic) => [accept(nic, bridge), accept(bridge, nic)]);
  passing.push(accept(bridge, bridge));
  passing.push({
    table: "nat",
    chain: "POSTROUTING",
    spec: ["-s", subnet, "!", "-o", bridge, "-j", "MASQUERADE"],
  });
  const targets = new Set(plan.dropCIDRs.map((cidr) => normalBlock(cidr, "drop CIDR")));
  const dropping = [...targets].map((target) =>
    forward("-i", bridge, "-d", target, "-m", "comment", "--comment", DROP_COMMENT, "-j", "DROP"),
  );
  return { passing, dropping };
}

/** Brings iptables in line with the plan. `onAdd` is told of a passing rule before it goes in. @returns one line per change */
export async function applyForwardingRules(
  rules: ForwardingRules,
  options: IptablesOptions = {},
  onAdd: (rule: Rule) => Promise<void> = async () => undefined,
): Promise<string[]> {
  const iptables = new Iptables(options);
  const changes: string[] = [];
  for (const rule of rules.passing) {
    if (await iptables.has(rule)) continue;
    await onAdd(rule);
    if (await iptables.ensure(rule, "last")) changes.push(`added ${describeRule(rule)}`);
  }
  // From the last to the first, so that they stand in the plan's order.
  for (const rule of rules.dropping.toReversed()) {
    if (await iptables.ensure(rule, "first")) changes.push(`added ${describeRule(rule)}`);
  }
  return [...changes, ...(await removeTagged(iptables, rules.dropping))];
}

/** Removes every DROP rule that cocoon-net has put in. @returns one line per removed rule */
export async function removeDropRules(options: IptablesOptions = {}): Promise<string[]> {
  return await removeTagged(new Iptables(options), []);
}

async function removeTagged(iptables: Iptables, wanted: readonly Rule[]): Promise<string[]> {
  const changes: string[] = [];
  const keep = new Set(wanted.map(identity));
  for (const rule of await iptables.list("filter", "FORWARD")) {
    if (optionOf(rule, "--comment") !== DROP_COMMENT || optionOf(rule, "-j") !== "DROP") continue;
    // The first of equal rules stays. Deleting by text takes the first and leaves the second: the same in effect.
    if (keep.delete(identity(rule))) continue;
    await iptables.delete(rule);
    changes.push(`removed ${describeRule(rule)}`);
  }
  return changes;
}

/** What a drop rule stands for, whatever the order in which iptables prints its parts; it leaves out `-d 0.0.0.0/0`. */
function identity(rule: Rule): string {
  return `${optionOf(rule, "-i")} ${optionOf(rule, "-d") ?? "0.0.0.0/0"}`;
}

function optionOf({ spec }: Rule, option: string): string | undefined {
  const at = spec.indexOf(option);
  if (at < 0) return undefined;
  return spec[at - 1] === "!" ? `! ${spec[at + 1]}` : spec[at + 1];
}

function forward(...spec: string[]): Rule {
  return { table: "filter", chain: "FORWARD", spec };
}

export function describeRule({ table, chain, spec }: Rule): string {
  return `iptables rule ${table} ${chain} ${spec.join(" ")}`;
}

/**
 * The block as iptables prints it. Host bits are masked as iptables does, because files of earlier versions may hold them.
 */
function normalBlock(text: string, what: string): string {
  const [, address, prefix] = /^([^/]+)\/(\d{1,2})$/.exec(text) ?? [];
  if (address === undefined || Number(prefix) > 32) {
    throw new InvalidError(`${what} "${text}" is not an IPv4 block like 10.0.0.0/8`);
  }
  return formatCidr(blockOf(parseAddress(address, what), Number(prefix)));
}
