import { formerEpochs, placeOf } from "./cluster-place.ts";
import { describeError, InvalidError } from "./errors.ts";
import { parseAddress, parseCidr } from "./ipv4.ts";
import { keys, prefixes } from "./keys.ts";
import {
  clusterConfigSchema,
  decode,
  encode,
  eventSchema,
  incarnationSchema,
  intentHeadSchema,
  leaseSchema,
  nodeSchema,
  quarantineSchema,
  slotSchema,
} from "./model.ts";
import { movedSchema } from "./moved-address.ts";
import { pauseSchema } from "./pause-switch.ts";
import * as z from "./record-schema.ts";
import type { Entry } from "./store.ts";

/** One record that is not as this version writes it. */
export interface RecordFinding {
  readonly key: string;
  readonly reason: string;
}

export interface RecordReport {
  readonly records: number;
  readonly findings: readonly RecordFinding[];
  /** Keys of a kind that this version does not know: a newer version's, or somebody else's. */
  readonly unknown: readonly string[];
}

const anyObject = z.looseObject({});
const objectKeys: ReadonlySet<string> = new Set([keys.leader, keys.controller, keys.joining]);

/** What a record of each kind must be; `name` is what follows the prefix. Throws when it is not. */
const kinds: readonly (readonly [prefix: string, check: (entry: Entry, name: string) => void])[] = [
  [
    prefixes.subnets,
    (entry, name) => {
      nonEmpty(name);
      parseCidr(decode(z.string(), entry), "subnet");
    },
  ],
  [prefixes.epochs, (entry) => void formerEpochs(entry, entry)],
  [prefixes.slots, (entry, name) => void [parseCidr(name, "slot"), decode(slotSchema, entry)]],
  [prefixes.nodes, (entry, name) => void [nonEmpty(name), decode(nodeSchema, entry)]],
  [prefixes.alive, (entry, name) => void [nonEmpty(name), decode(anyObject, entry)]],
  [prefixes.pool, (entry, name) => void [parseAddress(name), decode(leaseSchema, entry)]],
  [prefixes.moved, (entry, name) => void [parseAddress(name), decode(movedSchema, entry)]],
  [prefixes.acted, (entry, name) => void [nonEmpty(name), decode(z.string(), entry)]],
  [prefixes.quarantine, (entry, name) => void [parseCidr(name, "block"), decode(quarantineSchema, entry)]],
  [prefixes.intents, (entry) => void decode(intentHeadSchema, entry)],
  [prefixes.events, (entry) => void decode(eventSchema, entry)],
];

/** Holds every record against the model. Says nothing about how records relate to each other. */
export function checkRecords(entries: Iterable<Entry>): RecordReport {
  const findings: RecordFinding[] = [];
  const unknown: string[] = [];
  let records = 0;
  let hasConfig = false;
  for (const entry of entries) {
    records++;
    const { key } = entry;
    hasConfig ||= key === keys.config;
    const kind = kinds.find(([prefix]) => key.startsWith(prefix));
    try {
      if (kind) kind[1](entry, key.slice(kind[0].length));
      else if (key === keys.config) checkConfig(entry);
      else if (key === keys.incarnation) decode(incarnationSchema, entry);
      else if (key === keys.pause) decode(pauseSchema, entry);
      else if (objectKeys.has(key)) decode(anyObject, entry);
      else unknown.push(key);
    } catch (error) {
      findings.push({ key, reason: describeError(error).replace(`${key}: `, "") });
    }
  }
  if (!hasConfig) findings.push({ key: keys.config, reason: "is missing: there is no cluster here" });
  return { records, findings, unknown };
}

function checkConfig(entry: Entry): void {
  placeOf(entry);
  // A cluster that is elsewhere is as it was, but for the word that says so.
  const record = { ...decode(anyObject, entry), schema: 1 };
  decode(clusterConfigSchema, { key: entry.key, value: encode(record) });
}

function nonEmpty(name: string): void {
  if (name === "") throw new InvalidError("names nothing");
}
