import {
  type ClusterConfig,
  ConflictError,
  clusterConfigSchema,
  decode,
  type Entry,
  encode,
  InvalidError,
  intentHeadSchema,
  keys,
  listAll,
  type NodeRecord,
  NotFoundError,
  nodeSchema,
  type PauseRecord,
  pauseSchema,
  prefixes,
  type Revision,
  requireCluster,
  type Store,
} from "@cocoon-net/core";
import { type OperatorOptions, type OperatorWrite, readAndWrite } from "./operator-write.ts";
import { forcedQuarantineMs } from "./quarantine-length.ts";
import { isAskedFor, newReclaim, type ReclaimIntent, reclaimIntentSchema } from "./reclaim-intent.ts";

/**
 * What operators ask of the cluster. Each is one transaction, which any machine may make that reaches the store; the
 * leader acts on it, at once where there is one. Safe to repeat.
 */

/** Stops everything that frees, also what is under way, before its next change. Pausing again gives another reason. */
export function pauseReclaim(store: Store, reason: string, options: OperatorOptions = {}): Promise<void> {
  return readAndWrite(
    async () => {
      const { reads, revision } = await read(store, [keys.config, keys.pause], options);
      requireCluster(reads[0], store.label, undefined);
      const record: PauseRecord = { reason, since: timeOf(options) };
      const message = `an operator stops everything that frees: ${reason}`;
      return {
        result: undefined,
        write: {
          if: [],
          then: [{ put: keys.pause, value: encode(record) }],
          event: { type: "reclaim-paused", reason: "operator", message },
          after: revision,
        },
      };
    },
    store,
    "pausing",
    options,
  );
}

/** Undoes {@link pauseReclaim}. False when nothing was paused. */
export function resumeReclaim(store: Store, options: OperatorOptions = {}): Promise<boolean> {
  return readAndWrite(
    async () => {
      const { reads, revision } = await read(store, [keys.pause], options);
      const [paused] = reads;
      if (!paused) return { result: false, write: undefined };
      return {
        result: true,
        write: {
          if: [same(paused)],
          then: [{ delete: keys.pause }],
          event: {
            type: "reclaim-resumed",
            reason: "operator",
            message: "an operator lets everything go on that frees",
          },
          after: revision,
        },
      };
    },
    store,
    "resuming",
    options,
  );
}

/** Why nothing is freed now, or undefined. */
export async function readPause(
  store: Store,
  options: OperatorOptions = {},
): Promise<PauseRecord | undefined> {
  const { entry } = await store.get(keys.pause, options);
  return entry && decode(pauseSchema, entry);
}

/**
 * Asks a node to leave in order: it grants nothing new; when its last guest has gone it is fenced, and its block is
 * freed. @throws {NotFoundError}; {@link ConflictError} for a node that is being reclaimed
 */
export function requestDrain(store: Store, node: string, options: OperatorOptions = {}): Promise<void> {
  return readAndWrite(
    async () => {
      const { owner } = await lookAt(store, node, options);
      const { status, departs } = owner.record;
      if (status === "draining" && departs === undefined) return { result: undefined, write: undefined };
      refuseReclaimed(owner);
      const message = `${node} is to leave: it grants nothing new, and ${owner.subnet} is freed when its guests are gone`;
      return { result: undefined, write: rewrite(owner, { status: "draining" }, "drain-requested", message) };
    },
    store,
    `draining ${node}`,
    options,
  );
}

/** Undoes {@link requestDrain}, until the node is being fenced. False when it was not draining. */
export function cancelDrain(store: Store, node: string, options: OperatorOptions = {}): Promise<boolean> {
  return readAndWrite(
    async () => {
      const { owner } = await lookAt(store, node, options);
      refuseReclaimed(owner);
      if (owner.record.status !== "draining") return { result: false, write: undefined };
      const message = `${node} stays, and may grant again`;
      return { result: true, write: rewrite(owner, { status: "ready" }, "drain-cancelled", message) };
    },
    store,
    `keeping ${node}`,
    options,
  );
}

export interface ReclaimRequest {
  /** Go on when no fence can be verified; the block rests until its leases must have ended (G6). */
  readonly force?: boolean;
}

export interface RequestedReclaim {
  /** `intents/{intent}` exists while it runs. */
  readonly intent: string;
  readonly subnet: string;
  /**
   * Of a forced one: the soonest that the block is free should the fence fail, for people; by the clock of this machine,
   * and as if the node had been heard just now.
   */
  readonly until: string | undefined;
  /** What nobody can exclude should the fence fail, one sentence each. Empty unless it is forced. */
  readonly cannotExclude: readonly string[];
}

/**
 * Takes the block of a silent node without waiting for the policy, or for the end of a mass silence that holds a reclaim
 * which has begun by itself (G13). The cloud fences it first, and what it says is read back.
 * @throws {NotFoundError}; {@link ConflictError} for a node that is alive, or is being reclaimed already as was asked;
 * {@link InvalidError} for one that no cloud can fence, unless it is forced
 */
export function requestReclaim(
  store: Store,
  node: string,
  { force = false }: ReclaimRequest = {},
  options: OperatorOptions = {},
): Promise<RequestedReclaim> {
  return readAndWrite(
    async () => {
      const { owner, alive, config } = await lookAt(store, node, options);
      const { record, subnet } = owner;
      const cause = force ? "operator-forced" : "operator";
      const begun =
        record.status === "fencing" ? await unaskedReclaim(store, owner, cause, options) : undefined;
      if (!begun) refuseReclaimed(owner);
      if (alive) {
        throw new ConflictError(`node ${node} is alive: its session with the store holds`, {
          hint: `drain it, or stop its agent first`,
        });
      }
      if (record.status === "ready" && !force) {
        throw new ConflictError(`node ${node} is not suspect yet: it may only have fallen silent just now`, {
          hint: "wait until a controller calls it suspect",
        });
      }
      if (record.instanceID === undefined && !force) {
        throw new InvalidError(`node ${node} has no instance id: no cloud can fence it`, {
          hint: "make sure that it is off, then force it",
        });
      }
      const time = timeOf(options);
      const { id, intent } = begun ?? newReclaim(cause, owner, record.platform ?? config.platform, time);
      const message = force
        ? `an operator takes ${subnet} from ${node}, with or without a fence`
        : `an operator takes ${subnet} from ${node}`;
      const event = { type: "reclaim-started", reason: cause, message } as const;
      const length = Math.max(config.quarantineMs, forcedQuarantineMs(record, config.leaseMs, 0));
      return {
        result: {
          intent: id,
          subnet,
          until: force ? new Date(Date.parse(time) + length).toISOString() : undefined,
          cannotExclude: force ? cannotExclude(owner) : [],
        },
        write: {
          if: [
            same(owner.claim),
            same(owner.entry),
            ...(begun ? [same(begun.entry)] : []),
            { key: keys.alive(node), exists: false },
          ],
          then: [
            { put: owner.entry.key, value: encode({ ...record, status: "fencing" }) },
            { put: keys.intent(id), value: encode({ ...intent, cause }) },
          ],
          event,
          about: { node, subnet, intent: id },
          after: owner.after,
        },
      };
    },
    store,
    `reclaiming ${node}`,
    options,
  );
}

/** The reclaim of a node that is being fenced, if nobody has asked yet for what `cause` stands for. */
async function unaskedReclaim(
  store: Store,
  { node, epoch }: Owner,
  cause: "operator" | "operator-forced",
  { signal, timeoutMs }: OperatorOptions,
): Promise<{ readonly id: string; readonly intent: ReclaimIntent; readonly entry: Entry } | undefined> {
  const { entries } = await listAll(store, prefixes.intents, { signal, timeoutMs });
  for (const entry of entries) {
    const { kind } = decode(intentHeadSchema, entry);
    if (kind !== "reclaim") continue;
    const intent = decode(reclaimIntentSchema, entry);
    if (intent.node !== node || intent.epoch !== epoch || intent.step !== "fencing") continue;
    const isAsked = cause === "operator" ? isAskedFor(intent) : intent.cause === cause;
    return isAsked ? undefined : { id: entry.key.slice(prefixes.intents.length), intent, entry };
  }
  return undefined;
}

function cannotExclude({ node, subnet }: Owner): string[] {
  return [
    `${node} may still run, cut off from the store: its guests then go on using addresses of ${subnet}, and it renews them for as long as they ask, past any quarantine`,
    `the cloud may still deliver ${subnet} to ${node}, and interfaces of it may stay behind; \`cocoon-net cluster check\` finds those`,
    `leases that ${node} granted may be missing in the store: the quarantine counts one whole lease time from when it was heard last`,
  ];
}

/** A node with its claim, as of one revision. */
interface Owner {
  readonly node: string;
  readonly subnet: string;
  readonly epoch: Revision;
  readonly record: NodeRecord;
  readonly claim: Entry;
  readonly entry: Entry;
  readonly after: Revision;
}

async function lookAt(
  store: Store,
  node: string,
  options: OperatorOptions,
): Promise<{ readonly owner: Owner; readonly alive: boolean; readonly config: ClusterConfig }> {
  const names = [keys.config, keys.subnet(node), keys.node(node), keys.alive(node)];
  const { reads, revision } = await read(store, names, options);
  const [config, claim, entry, alive] = reads;
  const cluster = decode(clusterConfigSchema, requireCluster(config, store.label, undefined));
  if (!claim || !entry) {
    throw new NotFoundError(`node ${node} owns no subnet in ${store.label}`, {
      hint: "`cocoon-net cluster nodes` lists those that do",
    });
  }
  const owner: Owner = {
    node,
    subnet: JSON.parse(claim.value) as string,
    epoch: claim.modRevision,
    record: decode(nodeSchema, entry),
    claim,
    entry,
    after: revision,
  };
  return { owner, alive: alive !== undefined, config: cluster };
}

function rewrite(
  owner: Owner,
  change: Pick<NodeRecord, "status">,
  type: "drain-requested" | "drain-cancelled",
  message: string,
): OperatorWrite {
  // An operator's word outlives the reason that the node had itself.
  const { grantsStopped: _, departs: __, ...record } = owner.record;
  return {
    if: [same(owner.claim), same(owner.entry)],
    then: [{ put: owner.entry.key, value: encode({ ...record, ...change }) }],
    event: { type, reason: "operator", message },
    about: { node: owner.node, subnet: owner.subnet },
    after: owner.after,
  };
}

function refuseReclaimed({ node, record }: Owner): void {
  if (record.status !== "fencing" && record.status !== "quarantined") return;
  throw new ConflictError(`node ${node} is being reclaimed already (${record.status})`, {
    hint: "`cocoon-net cluster events` shows how far that is",
  });
}

function read(store: Store, names: readonly string[], { signal, timeoutMs }: OperatorOptions) {
  return store.txn({ then: names.map((name) => ({ get: name })) }, { signal, timeoutMs });
}

function same({ key, modRevision }: Entry) {
  return { key, modRevision };
}

function timeOf({ now = () => new Date() }: OperatorOptions): string {
  return now().toISOString();
}
