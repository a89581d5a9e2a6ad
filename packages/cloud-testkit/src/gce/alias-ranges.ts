import { contains, formatCidr, nextFreeBlock, overlaps, parseCidr } from "@cocoon-net/core";
import { GceFault, invalidField } from "./gce-fault.ts";
import { type GceProject, readCidr } from "./project.ts";
import {
  type GceAlias,
  type GceInstance,
  type GceOperationError,
  type GceSubnetwork,
  sameAlias,
} from "./state.ts";

/** An alias as it was asked for; `/28` without a base lets the server choose. */
export interface WantedAlias {
  readonly cidr: string;
  readonly rangeName: string | undefined;
}

const field = "resource.aliasIpRanges";

/** Reads `aliasIpRanges` of a request body. @throws a 400 (facts §2.2) */
export function readAliases(list: unknown, subnetwork: GceSubnetwork): WantedAlias[] {
  if (!Array.isArray(list)) throw invalidField(field, "", "Must be a list.");
  return list.map((item: unknown) => {
    const entries = new Map(typeof item === "object" && item !== null ? Object.entries(item) : []);
    const cidr: unknown = entries.get("ipCidrRange");
    const rangeName: unknown = entries.get("subnetworkRangeName");
    if (typeof cidr !== "string") throw invalidField(`${field}[].ipCidrRange`, "", "Must be set.");
    if (rangeName !== undefined && typeof rangeName !== "string") {
      throw invalidField(`${field}[].subnetworkRangeName`, "", "Must be a string.");
    }
    const range = rangeOf(subnetwork, rangeName);
    if (/^\/([1-9]|[12]\d|3[0-2])$/.test(cidr)) return { cidr, rangeName };
    // A bare address and /32 are the same.
    const normal = cidr.includes("/") ? cidr : `${cidr}/32`;
    const block = readCidr(normal);
    if (block === undefined) throw invalidField(`${field}[].ipCidrRange`, cidr, "Must be a CIDR range.");
    if (!contains(parseCidr(range), block)) {
      throw invalidField(`${field}[].ipCidrRange`, cidr, `It is not within ${range}.`);
    }
    return { cidr: normal, rangeName };
  });
}

export interface AliasChange {
  readonly added: readonly WantedAlias[];
  readonly kept: readonly GceAlias[];
}

/**
 * What a change adds and takes away; anything not repeated is taken away (facts §2.1).
 *
 * @throws a 400 when it does both, or when the interface would have too many
 */
export function planChange(
  project: GceProject,
  instance: GceInstance,
  wanted: readonly WantedAlias[],
): AliasChange {
  const { aliases } = instance.nic;
  const added = wanted.filter((alias) => !aliases.some((held) => sameAlias(held, alias)));
  const kept = aliases.filter((held) => wanted.some((alias) => sameAlias(held, alias)));
  if (added.length > 0 && kept.length < aliases.length) {
    throw invalidField(field, "", "Cannot simultaneously add and remove alias IP ranges.");
  }
  const over = overLimit(project, instance, added.length, kept.length);
  if (over !== undefined && project.behaviour.aliasLimit === "request") {
    throw new GceFault("limitExceeded", over);
  }
  return { added, kept };
}

/** How the API words this is not documented; other per-resource limits read so. */
function overLimit(
  project: GceProject,
  instance: GceInstance,
  added: number,
  kept: number,
): string | undefined {
  const limit = project.limits.aliasRangesPerNic;
  if (added === 0 || added + kept <= limit) return undefined;
  const what = `Exceeded limit 'ALIAS_IP_RANGES_PER_NETWORK_INTERFACE' on resource '${instance.name}'.`;
  return `${what} Limit: ${limit}.0`;
}

/** Gives the aliases concrete blocks, or says why not: that comes as the operation's error (facts §2.2). */
export function resolveAliases(
  project: GceProject,
  instance: GceInstance,
  subnetwork: GceSubnetwork,
  added: readonly WantedAlias[],
  kept: number,
): GceAlias[] | GceOperationError {
  const over = overLimit(project, instance, added.length, kept);
  if (over !== undefined) return { httpStatus: 400, code: "LIMIT_EXCEEDED", message: over };
  const inNetwork = [...project.instances.values()].reduce((sum, { nic }) => sum + nic.aliases.length, 0);
  const quota = project.limits.aliasRangesPerNetwork;
  if (inNetwork + added.length > quota) {
    const message = `Quota 'ALIASES_PER_NETWORK_GLOBAL' exceeded. Limit: ${quota}.0 globally.`;
    return { httpStatus: 403, code: "QUOTA_EXCEEDED", message };
  }
  const resolved: GceAlias[] = [];
  for (const { cidr, rangeName } of added) {
    const block = cidr.startsWith("/") ? freeBlock(project, subnetwork, rangeName, cidr, resolved) : cidr;
    if (block === undefined) {
      const message = `IP space of '${rangeOf(subnetwork, rangeName)}' is exhausted.`;
      return { httpStatus: 400, code: "IP_SPACE_EXHAUSTED", message };
    }
    const own = [...instance.nic.aliases, ...resolved].some((alias) =>
      overlaps(parseCidr(alias.cidr), parseCidr(block)),
    );
    if (own || project.holderOf(block, instance.id) !== undefined) {
      const message = `IP '${block}' is already being used by another resource.`;
      return { httpStatus: 400, code: "IP_IN_USE_BY_ANOTHER_RESOURCE", message };
    }
    resolved.push({ cidr: block, rangeName });
  }
  return resolved;
}

function freeBlock(
  project: GceProject,
  subnetwork: GceSubnetwork,
  rangeName: string | undefined,
  netmask: string,
  resolved: readonly GceAlias[],
): string | undefined {
  const used = [...project.instances.values()].flatMap(({ nic }) => [
    `${nic.address}/32`,
    ...nic.aliases.map((alias) => alias.cidr),
  ]);
  const taken = [...used, ...resolved.map((alias) => alias.cidr)].map((cidr) => parseCidr(cidr));
  const range = parseCidr(rangeOf(subnetwork, rangeName));
  const prefix = Number(netmask.slice(1));
  if (prefix < range.prefix) return undefined;
  const block = nextFreeBlock(range, prefix, taken);
  return block && formatCidr(block);
}

function rangeOf(subnetwork: GceSubnetwork, rangeName: string | undefined): string {
  if (rangeName === undefined) return subnetwork.cidr;
  const range = subnetwork.secondaryRanges.find((candidate) => candidate.rangeName === rangeName);
  if (range !== undefined) return range.cidr;
  throw invalidField(
    `${field}[].subnetworkRangeName`,
    rangeName,
    `Secondary range does not exist in subnetwork ${subnetwork.name}.`,
  );
}
