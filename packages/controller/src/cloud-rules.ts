import {
  AddressSet,
  type CloudResource,
  formatAddress,
  parseAddress,
  parseCidr,
  type Span,
} from "@cocoon-net/core";
import type { CheckFacts } from "./check-facts.ts";
import { type Finding, findingOf } from "./finding.ts";
import { blockIndex } from "./store-rules.ts";

/** What the cloud has, held against the store. Pure. Says nothing of a platform that could not be asked (G8). */
export function checkClouds(facts: CheckFacts): Finding[] {
  return [...facts.resources].flatMap(([platform, resources]) => [
    ...checkResources(facts, platform, resources),
    ...checkDelivery(facts, platform, resources),
  ]);
}

function* checkResources(
  facts: CheckFacts,
  platform: string,
  resources: readonly CloudResource[],
): Generator<Finding> {
  const { subnets, nodes, quarantine, moved } = facts;
  const owners = [...subnets].map(([node, { value }]) => [parseCidr(value), node] as const);
  const ownerOf = blockIndex(owners);
  const restingAt = blockIndex([...quarantine.keys()].map((cidr) => [parseCidr(cidr), cidr] as const));
  const recorded = new Set([...nodes.values()].flatMap(({ value }) => value.eniIDs));
  const nodeOfInstance = nodesByInstance(facts);
  for (const resource of resources) {
    const { id, kind, node, madeFor, instanceID, addresses, warm } = resource;
    // A subnet outlives its node on purpose, and what is kept warm is meant to be.
    if (kind === "subnet" || warm) continue;
    if (instanceID === undefined) {
      // Its node is still being set up, or it is being reclaimed and has its own job.
      const expected = recorded.has(id) || addresses.some((text) => restingAt(firstOf(text)) !== undefined);
      const made = madeFor === undefined ? undefined : nodeOfInstance.get(madeFor);
      if (expected || made !== undefined) continue;
      const subnet =
        addresses.find((text) => text.includes("/")) ?? `${firstOf(addresses[0] ?? "0.0.0.0")}/32`;
      yield findingOf("resource-leaked", {
        subject: `${platform}:${id}`,
        ...(node === undefined ? {} : { node }),
        message: `${kind} ${id} is tagged as this cluster's, nobody has it, and no node knows it`,
        ...(kind === "nic"
          ? {
              repair: {
                do: "release-resource",
                platform,
                id,
                node: node ?? "",
                ...(madeFor === undefined ? {} : { instanceID: madeFor }),
                subnet,
              } as const,
            }
          : {}),
      });
      continue;
    }
    for (const text of addresses) {
      const ip = firstOf(text);
      const server = moved.get(ip)?.value;
      const holder = nodeOfInstance.get(instanceID);
      // On the way either of the two may have it.
      if (server?.move) continue;
      const owner = server?.node ?? ownerOf(ip);
      if (owner === holder && owner !== undefined) continue;
      const about = {
        subject: `${platform}:${id} ${text}`,
        ...(text.includes("/") ? { subnet: text } : { ip }),
      };
      if (owner !== undefined) {
        yield findingOf("address-held-by-another", {
          ...about,
          node: owner,
          message: `${text} is ${owner}'s, and ${instanceID} holds it`,
        });
      } else if (restingAt(ip) === undefined) {
        yield findingOf("address-without-owner", {
          ...about,
          message: `${text} is nobody's, and ${instanceID} holds it`,
        });
      }
    }
  }
}

/** Leases of living nodes whose address the cloud does not deliver to them. */
function* checkDelivery(
  facts: CheckFacts,
  platform: string,
  resources: readonly CloudResource[],
): Generator<Finding> {
  const { leases, nodes, alive, moved, config } = facts;
  const delivered = new Map<string, AddressSet>();
  for (const { instanceID, addresses } of resources) {
    if (instanceID === undefined) continue;
    const set = delivered.get(instanceID) ?? new AddressSet([]);
    for (const text of addresses) set.add(spanOf(text));
    delivered.set(instanceID, set);
  }
  for (const [ip, { value, entry }] of leases) {
    const record = nodes.get(value.node)?.value;
    if (!record?.instanceID || !alive.has(value.node) || moved.get(ip)?.value.move) continue;
    if ((record.platform ?? config.platform) !== platform) continue;
    if (delivered.get(record.instanceID)?.has(parseAddress(ip))) continue;
    yield findingOf("lease-not-delivered", {
      subject: entry.key,
      node: value.node,
      ip,
      message: `${value.node} has a guest with ${ip}, and ${record.instanceID} does not hold that address`,
    });
  }
}

function nodesByInstance({ nodes, subnets }: CheckFacts): ReadonlyMap<string, string> {
  const byInstance = new Map<string, string>();
  for (const [node, { value }] of nodes) {
    if (value.instanceID !== undefined && subnets.has(node)) byInstance.set(value.instanceID, node);
  }
  return byInstance;
}

function spanOf(text: string): Span {
  return text.includes("/") ? parseCidr(text) : parseAddress(text);
}

function firstOf(text: string): string {
  return text.includes("/") ? formatAddress(parseCidr(text).base) : text;
}
