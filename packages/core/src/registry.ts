import { Backoff, pause } from "./backoff.ts";
import { type ClusterView, readCluster, viewOf } from "./cluster-config.ts";
import { ConflictError, FencedError, InvalidError, UnavailableError } from "./errors.ts";
import { eventOperation } from "./events.ts";
import { freeSlots, lowestFreeSlot } from "./free-slots.ts";
import { type Cidr, formatCidr, parseCidr } from "./ipv4.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import { decode, encode, nodeSchema, quarantineSchema, type SlotRecord, slotSchema } from "./model.ts";
import { type NodeDescription, newNodeRecord, withEnded } from "./node-record.ts";
import { type Look, Recovery } from "./recovery.ts";
import { Registration, type RegistrationFields } from "./registration.ts";
import { checkSubnet, slotsOf } from "./slots.ts";
import type { CallOptions, Compare, Entry, Operation, Revision, Store } from "./store.ts";

export interface RegisterRequest extends NodeDescription {
  readonly node: string;
  /** Instance id, or a random UUID that the node keeps (G12). */
  readonly uid: string;
  /** The block to own; without it the node gets its quarantined one back, else the lowest free slot. */
  readonly subnet?: string | undefined;
  /** The cluster that the node belongs to already: it joins no other one. */
  readonly clusterUID?: string | undefined;
  /** What the node has on record as its own: where the store has lost that, it is asserted again. */
  readonly former?: Pick<RegistrationFields, "subnet" | "epoch" | "incarnation"> | undefined;
}

export interface RegisterOptions extends CallOptions {
  /** Called once, when the store is recovering and the node has to wait for its subnet. */
  readonly onWait?: ((message: string) => void) | undefined;
  /** How long to wait for a store that is recovering; default four times the cluster's `recoveryMs`. */
  readonly maxWaitMs?: number | undefined;
}

export interface RegistryOptions extends Pick<RegistrationFields, "onChanged"> {
  readonly now?: (() => Date) | undefined;
  /** Milliseconds that only grow; default `performance.now`. */
  readonly monotonic?: (() => number) | undefined;
}

interface Attempt {
  /** The incarnation in which a free subnet was last tried for: if that is lost, so is the claim. */
  claimedIn: string | undefined;
  former: RegisterRequest["former"];
}

/** What a registration is made from, as of one revision. */
interface Situation {
  readonly cluster: ClusterView;
  readonly look: Look;
  /** `subnets/{node}` and `nodes/{node}`. */
  readonly owned: Entry | undefined;
  readonly about: Entry | undefined;
}

/** One block that a registration tries to take, with what must still hold for it to be free. */
interface Claim {
  readonly subnet: Cidr;
  readonly slots: readonly Cidr[];
  readonly conditions: readonly Compare[];
  readonly extra: readonly Operation[];
}

/**
 * Why a claim came to nothing: somebody else was faster, or what the claim was made from has changed (the config,
 * or this very node was registered meanwhile) and must be read again.
 */
type Refusal = "taken" | "outdated";

const rounds = 8;
/** What a transaction about a subnet needs beside one operation for each of its slots, the controller's included. */
const otherOperations = 8;

/**
 * Gives nodes their subnets (G1). Ownership is two keys written in one transaction: `subnets/{node}`, whose
 * revision is the node's epoch, and `slots/{cidr}` for every slot the subnet covers, created only if absent.
 */
export class Registry {
  readonly #store: Store;
  readonly #now: () => Date;
  readonly #monotonic: () => number;
  readonly #onChanged: RegistrationFields["onChanged"];
  readonly #recovery: Recovery;

  constructor(store: Store, options: RegistryOptions = {}) {
    this.#store = store;
    this.#now = options.now ?? (() => new Date());
    this.#monotonic = options.monotonic ?? (() => performance.now());
    this.#onChanged = options.onChanged;
    this.#recovery = new Recovery(store, options);
  }

  /**
   * Registers a node, or returns the registration it has. Safe to repeat after a lost answer. While the store is
   * recovering, a node that has none waits.
   * @throws {ConflictError} when the name, or the explicit subnet, belongs to somebody else, or the store does not hold
   * the node's cluster; {@link ExhaustedError} when the parent CIDR is full; {@link InvalidError} for a subnet outside
   * the parent, and for a name that is no host name; {@link UnavailableError} when the store does not recover in time.
   */
  async register(request: RegisterRequest, options: RegisterOptions = {}): Promise<Registration> {
    checkName(request.node);
    const explicit = request.subnet === undefined ? undefined : parseCidr(request.subnet, "subnet");
    const backoff = new Backoff({ firstMs: 20, maxMs: 2_000 });
    const { former } = request;
    const fits = !explicit || former?.subnet === formatCidr(explicit);
    const attempt: Attempt = { claimedIn: undefined, former: fits ? former : undefined };
    // For lost answers and for what changes between look and claim; races for a slot are settled inside.
    for (let round = 1; ; round++) {
      try {
        const found = await this.#look(request, options);
        const { id, recovering } = found.look.incarnation;
        const mine = this.#existing(request, explicit, found);
        // G1: what was claimed in a past that the store has lost is nobody's, least of all somebody else's subnet.
        if (mine && (attempt.claimedIn ?? id) !== id) await this.#withdraw(mine, options);
        else if (mine) return mine;
        else if (attempt.former) {
          const takenUp = await this.#takeUp(request, attempt, options);
          if (takenUp) return takenUp;
          if (recovering) await this.#recovered(found, options);
        } else if (recovering) await this.#recovered(found, options);
        else {
          const result = await this.#claimSome(request, explicit, found, attempt, options);
          if (result instanceof Registration && (await this.#recovery.unchanged(options))) return result;
        }
        if (round === rounds) {
          throw new ConflictError(`node ${request.node} could not be registered: the cluster kept changing`, {
            hint: "try again",
          });
        }
      } catch (error) {
        options.signal?.throwIfAborted();
        if (!(error instanceof UnavailableError) || error instanceof RecoveringError || round === rounds) {
          throw error;
        }
      }
      await backoff.wait(options.signal);
    }
  }

  /**
   * Takes up an ownership that a node has on record, in the epoch that it has in this store: one that the store has
   * lost is asserted again. @throws as {@link Registration.confirm}.
   */
  async reassert(
    former: Omit<RegistrationFields, "config" | "now" | "recovery"> & {
      readonly clusterUID?: string | undefined;
    },
    options: CallOptions = {},
  ): Promise<Registration> {
    // One by one: of another registration they are accessors.
    const { node, uid, subnet, epoch, incarnation, about, onChanged = this.#onChanged, clusterUID } = former;
    const { config } = await readCluster(this.#store, { ...options, clusterUID });
    const registration = new Registration(this.#store, {
      ...{ node, uid, subnet, epoch, incarnation, config, about, onChanged },
      now: this.#now,
      recovery: this.#recovery,
    });
    await registration.confirm(options);
    return registration;
  }

  /** The slot that the next node would get, without taking it. */
  async nextFree(options: CallOptions = {}): Promise<string> {
    const cluster = await readCluster(this.#store, options);
    return formatCidr(await lowestFreeSlot(this.#store, cluster, options));
  }

  #checkExplicit(subnet: Cidr, cluster: ClusterView): void {
    checkSubnet(subnet, { ...cluster, nodePrefix: cluster.config.nodePrefix });
    const slots = slotsOf(subnet, cluster.config.nodePrefix).length;
    const most = this.#store.capabilities.maxOperations - otherOperations;
    if (slots <= most) return;
    throw new InvalidError(
      `subnet ${formatCidr(subnet)} is too wide: it has ${slots} slots, ${this.#store.label} takes ${most} at once`,
      { hint: "choose a longer prefix" },
    );
  }

  async #look({ node, clusterUID }: RegisterRequest, options: CallOptions): Promise<Situation> {
    const { signal, timeoutMs } = options;
    const names = [keys.subnet(node), keys.node(node)];
    const look = await this.#recovery.look(names, { signal, timeoutMs, clusterUID });
    const [owned, about] = look.reads;
    const cluster = viewOf(look.config, look.incarnation, look.revision, this.#store.label);
    return { cluster, look, owned, about };
  }

  #existing(
    request: RegisterRequest,
    explicit: Cidr | undefined,
    { cluster, look, owned, about }: Situation,
  ): Registration | undefined {
    if (!owned) return undefined;
    const record = about && decode(nodeSchema, about);
    if (record?.uid !== request.uid) {
      throw new ConflictError(
        `node name "${request.node}" is registered by instance ${record?.uid ?? "unknown"} with ${subnetIn(owned)}`,
        { hint: "choose another --node-name, or reclaim that node first" },
      );
    }
    if (record.status === "fencing" || record.status === "quarantined") {
      throw new ConflictError(`node ${request.node} is being reclaimed (${record.status})`, {
        hint: "wait until `cocoon-net cluster nodes` shows it as left, then start it again",
      });
    }
    if (explicit && subnetIn(owned) !== formatCidr(explicit)) {
      throw new ConflictError(
        `node ${request.node} owns ${subnetIn(owned)} already and cannot take ${formatCidr(explicit)} too`,
        { hint: "leave out --subnet, or tear the node down first" },
      );
    }
    return this.#registration(request, subnetIn(owned), owned.modRevision, cluster, look.incarnation.id);
  }

  /** Undefined when the former ownership has ended, or while that is not decided. */
  async #takeUp(
    request: RegisterRequest,
    attempt: Attempt,
    options: CallOptions,
  ): Promise<Registration | undefined> {
    if (!attempt.former) return undefined;
    const { node, uid, clusterUID } = request;
    const { subnet, epoch, incarnation } = attempt.former;
    try {
      return await this.reassert(
        { node, uid, clusterUID, subnet, epoch, incarnation, about: request },
        options,
      );
    } catch (error) {
      if (error instanceof FencedError) attempt.former = undefined;
      else if (!(error instanceof ConflictError)) throw error;
      return undefined;
    }
  }

  /** Waits until new subnets are given out again. @throws {RecoveringError} */
  async #recovered({ cluster, look }: Situation, options: RegisterOptions): Promise<void> {
    const { signal, timeoutMs, onWait } = options;
    const { recoveryMs, clusterUID } = cluster.config;
    const maxWaitMs = options.maxWaitMs ?? recoveryMs * 4;
    const message = `${this.#store.label} may have lost writes (${look.incarnation.since}): new nodes wait until those that live have said again what they own`;
    onWait?.(`${message}, about ${Math.ceil(recoveryMs / 1_000)} s`);
    const end = this.#monotonic() + maxWaitMs;
    let failure: unknown;
    while (this.#monotonic() < end) {
      await pause(Math.min(1_000, recoveryMs / 10), signal);
      try {
        const { incarnation } = await this.#recovery.look([], { signal, timeoutMs, clusterUID });
        if (!incarnation.recovering) return;
        failure = undefined;
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error;
        failure = error;
      }
    }
    throw new RecoveringError(`${message}; that has not ended in ${Math.round(maxWaitMs / 1_000)} s`, {
      outcome: "none",
      cause: failure,
      hint: "try again; `cocoon-net cluster events` shows when the store began to recover",
    });
  }

  /** Undoes a claim, if it stands. */
  async #withdraw({ node, subnet, fence, config }: Registration, options: CallOptions): Promise<void> {
    const { reads, revision } = await this.#store.txn(
      { then: [{ get: keys.subnet(node) }, { get: keys.node(node) }] },
      options,
    );
    const [owned, about] = reads;
    if (!owned || !about) return;
    const message = `${node} waits for another subnet: it was given ${subnet} just before the store lost writes`;
    const event = { time: this.#now().toISOString(), type: "registration-undone", node, subnet, message };
    const record = { ...withEnded(decode(nodeSchema, about), owned, undefined), status: "left" };
    await this.#store.txn(
      {
        if: [fence, { key: about.key, modRevision: about.modRevision }],
        then: [
          { delete: owned.key },
          { put: about.key, value: encode(record) },
          eventOperation(revision, event),
          ...slotsOf(parseCidr(subnet), config.nodePrefix).map(
            (slot): Operation => ({ delete: keys.slot(formatCidr(slot)) }),
          ),
        ],
      },
      options,
    );
  }

  async #claimSome(
    request: RegisterRequest,
    explicit: Cidr | undefined,
    found: Situation,
    attempt: Attempt,
    options: CallOptions,
  ): Promise<Registration | "outdated"> {
    const { cluster, look } = found;
    if (explicit) this.#checkExplicit(explicit, cluster);
    const own = await this.#quarantinedClaim(request, explicit, cluster, options);
    attempt.claimedIn = own ? undefined : look.incarnation.id;
    if (own) {
      const result = await this.#claim(request, own, found, options);
      return result === "taken" ? "outdated" : result;
    }
    if (explicit) {
      const result = await this.#claim(request, claimOf(explicit, cluster), found, options);
      if (result !== "taken") return result;
      const owner = await this.#ownerConflict(explicit, cluster, options);
      if (owner) throw owner;
      return "outdated";
    }
    for await (const slot of freeSlots(this.#store, cluster, request.node, options)) {
      const result = await this.#claim(request, claimOf(slot, cluster), found, options);
      if (result !== "taken") return result;
    }
    return "outdated";
  }

  /** The node's former block, when it is still in quarantine: nobody else has used it, so it may return. */
  async #quarantinedClaim(
    request: RegisterRequest,
    explicit: Cidr | undefined,
    cluster: ClusterView,
    options: CallOptions,
  ): Promise<Claim | undefined> {
    for (const entry of (await listAll(this.#store, prefixes.quarantine, options)).entries) {
      if (decode(quarantineSchema, entry).uid !== request.uid) continue;
      const subnet = parseCidr(entry.key.slice(prefixes.quarantine.length));
      if (explicit && formatCidr(explicit) !== formatCidr(subnet)) continue;
      const slots = slotsOf(subnet, cluster.config.nodePrefix);
      const held = (await this.#slotEntries(slots, options)).filter((slot) => {
        const record: SlotRecord = decode(slotSchema, slot);
        return record.node === "" && record.uid === request.uid;
      });
      if (held.length < slots.length) continue;
      return {
        subnet,
        slots,
        conditions: [entry, ...held].map(({ key, modRevision }) => ({ key, modRevision })),
        extra: [{ delete: entry.key }],
      };
    }
    return undefined;
  }

  /** Those of the slots that have an owner, or are in quarantine. */
  async #slotEntries(slots: readonly Cidr[], options: CallOptions): Promise<Entry[]> {
    const { reads } = await this.#store.txn(
      { then: slots.map((slot) => ({ get: keys.slot(formatCidr(slot)) })) },
      options,
    );
    return reads.filter((entry) => entry !== undefined);
  }

  async #claim(
    request: RegisterRequest,
    claim: Claim,
    { cluster, look, about }: Situation,
    options: CallOptions,
  ): Promise<Registration | Refusal> {
    const subnet = formatCidr(claim.subnet);
    const lastSeen = this.#now().toISOString();
    const before = about && decode(nodeSchema, about);
    const record = newNodeRecord(request, { uid: request.uid, lastSeen, subnet }, before);
    const slot = encode({ node: request.node, uid: request.uid } satisfies SlotRecord);
    const result = await this.#store.txn(
      {
        if: [
          { key: keys.subnet(request.node), exists: false },
          { key: keys.config, modRevision: cluster.revision },
          // G1
          look.incarnation.holds,
          ...claim.conditions,
        ],
        then: [
          { put: keys.subnet(request.node), value: encode(subnet) },
          { put: keys.node(request.node), value: encode(record) },
          ...claim.slots.map((cidr) => ({ put: keys.slot(formatCidr(cidr)), value: slot })),
          ...claim.extra,
          eventOperation(cluster.readAt, {
            time: lastSeen,
            type: "node-registered",
            node: request.node,
            subnet,
            message: `${request.node} (${request.uid}) owns ${subnet}`,
          }),
        ],
        else: [{ get: keys.subnet(request.node) }, { get: keys.config }, { get: keys.incarnation }],
      },
      options,
    );
    const { id, holds } = look.incarnation;
    if (result.succeeded) return this.#registration(request, subnet, result.revision, cluster, id);
    const [registered, config, incarnation] = result.reads;
    const same =
      config?.modRevision === cluster.revision && "value" in holds && incarnation?.value === holds.value;
    return registered || !same ? "outdated" : "taken";
  }

  /** Undefined when what stood in the way has gone meanwhile. */
  async #ownerConflict(
    subnet: Cidr,
    cluster: ClusterView,
    options: CallOptions,
  ): Promise<ConflictError | undefined> {
    const [entry] = await this.#slotEntries(slotsOf(subnet, cluster.config.nodePrefix), options);
    if (!entry) return undefined;
    const { node } = decode(slotSchema, entry);
    const who = node === "" ? "is in quarantine" : `belongs to node ${node}`;
    return new ConflictError(
      `subnet ${formatCidr(subnet)} overlaps ${entry.key.slice(prefixes.slots.length)}, which ${who}`,
      { hint: "choose another --subnet, or leave it out to get a free one" },
    );
  }

  #registration(
    request: RegisterRequest,
    subnet: string,
    epoch: Revision,
    cluster: ClusterView,
    incarnation: string,
  ): Registration {
    return new Registration(this.#store, {
      node: request.node,
      uid: request.uid,
      subnet,
      epoch,
      incarnation,
      config: cluster.config,
      about: request,
      onChanged: this.#onChanged,
      now: this.#now,
      recovery: this.#recovery,
    });
  }
}

/** Waiting for the store to recover has taken too long. */
class RecoveringError extends UnavailableError {}

function claimOf(subnet: Cidr, cluster: ClusterView): Claim {
  const slots = slotsOf(subnet, cluster.config.nodePrefix);
  const conditions = slots.map((slot) => ({ key: keys.slot(formatCidr(slot)), exists: false }));
  return { subnet, slots, conditions, extra: [] };
}

function subnetIn(entry: Entry): string {
  return JSON.parse(entry.value) as string;
}

function checkName(node: string): void {
  if (/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/.test(node)) return;
  throw new InvalidError(`node name "${node}" is not a host name (letters, digits, dots and dashes)`);
}
