import {
  decode,
  type Entry,
  keys,
  leaseSchema,
  movedSchema,
  nodeSchema,
  prefixes,
  quarantineSchema,
} from "@cocoon-net/core";
import type { HistoryEntry, StoreNews } from "./history.ts";

type Value = Pick<Entry, "key" | "value"> | undefined;

/** What a change of one key means for the history; undefined for what it does not follow. */
export function newsOf(key: string, before: Value, now: Value, news: StoreNews): HistoryEntry | undefined {
  const [, prefix = "", name = ""] = /^([a-z]+\/?)(.*)$/.exec(key) ?? [];
  switch (prefix) {
    case prefixes.subnets: {
      const subnet = now && (JSON.parse(now.value) as string);
      return { kind: "owner", ...news, node: name, subnet };
    }
    case prefixes.slots:
      return now ? undefined : { kind: "freed", ...news, subnet: name };
    case prefixes.quarantine: {
      const taken = now && decode(quarantineSchema, now);
      const isKnown = before && decode(quarantineSchema, before).intent === taken?.intent;
      return taken && !isKnown ? { kind: "taken", ...news, node: taken.node, subnet: name } : undefined;
    }
    case prefixes.nodes: {
      const status = now && decode(nodeSchema, now).status;
      const isKnown = before && decode(nodeSchema, before).status === status;
      return status && !isKnown ? { kind: "status", ...news, node: name, status } : undefined;
    }
    case keys.pause:
      return { kind: "pause", ...news, paused: now !== undefined };
    case prefixes.pool: {
      const held = now && decode(leaseSchema, now);
      const was = before && decode(leaseSchema, before);
      if (was?.node === held?.node && was?.mac === held?.mac) return undefined;
      return { kind: "holder", ...news, ip: name, held: held && { node: held.node, mac: held.mac } };
    }
    case prefixes.moved: {
      const record = now && decode(movedSchema, now);
      if (!record) return { kind: "moved", ...news, ip: name };
      const { node, mac, move } = record;
      return { kind: "moved", ...news, ip: name, served: { node, mac, settled: move?.to !== node } };
    }
    default:
      return undefined;
  }
}
