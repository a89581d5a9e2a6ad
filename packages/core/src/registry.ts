import { Backoff } from "./backoff.ts";
import { type ClusterView, readCluster } from "./cluster-config.ts";
import { ConflictError, InvalidError, UnavailableError } from "./errors.ts";
import { eventOperation } from "./events.ts";
import { freeSlots, lowestFreeSlot } from "./free-slots.ts";
import { type Cidr, formatCidr, parseCidr } from "./ipv4.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import {
  decode,
  encode,
  type NodeRecord,
  nodeSchema,
  quarantineSchema,
  type SlotRecord,
  slotSchema,
} from "./model.ts";
import { Registration } from "./registration.ts";
import { checkSubnet, slotsOf } from "./slots.ts";
import type { CallOptions, Compare, Entry, Operation, Revision, Store } from "./store.ts";

export interface RegisterRequest {
  readonly node: string;
  /** Instance id, or a random UUID that the node keeps (G12). */
  readonly uid: string;
  /** The block to own; without it the node gets its quarantined one back, else the lowest free slot. */
  readonly subnet?: string | undefined;
  readonly instanceID?: string | undefined;
  readonly zone?: string | undefined;
  readonly platform?: string | undefined;
  readonly subnetID?: string | undefined;
  readonly eniIDs?: readonly string[] | undefined;
  readonly leaseSource?: string | undefined;
  readonly agentVersion: string;
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

  constructor(store: Store, options: { readonly now?: () => Date } = {}) {
    this.#store = store;
    this.#now = options.now ?? (() => new Date());
  }

  /**
   * Registers a node, or returns the registration it has. Safe to repeat after a lost answer.
   * @throws {ConflictError} when the name, or the explicit subnet, belongs to somebody else;
   * {@link ExhaustedError} when the parent CIDR is full; {@link InvalidError} for a subnet outside the parent, and for
   * a name that is no host name.
   */
  async register(request: RegisterRequest, options: CallOptions = {}): Promise<Registration> {
    checkName(request.node);
    const explicit = request.subnet === undefined ? undefined : parseCidr(request.subnet, "subnet");
    const backoff = new Backoff({ firstMs: 20, maxMs: 2_000 });
    // For lost answers and for what changes between look and claim; races for a slot are settled inside.
    for (let round = 1; ; round++) {
      try {
        const cluster = await readCluster(this.#store, options);
        const result =
          (await this.#existing(request, explicit, cluster, options)) ??
          (await this.#claimSome(request, explicit, cluster, options));
        if (result instanceof Registration) return result;
        if (round === rounds) {
          throw new ConflictError(`node ${request.node} could not be registered: the cluster kept changing`, {
            hint: "try again",
          });
        }
      } catch (error) {
        options.signal?.throwIfAborted();
        if (!(error instanceof UnavailableError) || round === rounds) throw error;
      }
      await backoff.wait(options.signal);
    }
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

  async #existing(
    request: RegisterRequest,
    explicit: Cidr | undefined,
    cluster: ClusterView,
    options: CallOptions,
  ): Promise<Registration | undefined> {
    const { reads } = await this.#store.txn(
      { then: [{ get: keys.subnet(request.node) }, { get: keys.node(request.node) }] },
      options,
    );
    const [owned, nodeEntry] = reads;
    if (!owned) return undefined;
    const record = nodeEntry && decode(nodeSchema, nodeEntry);
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
    return this.#registration(request, subnetIn(owned), owned.modRevision, cluster);
  }

  async #claimSome(
    request: RegisterRequest,
    explicit: Cidr | undefined,
    cluster: ClusterView,
    options: CallOptions,
  ): Promise<Registration | "outdated"> {
    if (explicit) this.#checkExplicit(explicit, cluster);
    const own = await this.#quarantinedClaim(request, explicit, cluster, options);
    if (own) {
      const result = await this.#claim(request, own, cluster, options);
      return result === "taken" ? "outdated" : result;
    }
    if (explicit) {
      const result = await this.#claim(request, claimOf(explicit, cluster), cluster, options);
      if (result !== "taken") return result;
      const owner = await this.#ownerConflict(explicit, cluster, options);
      if (owner) throw owner;
      return "outdated";
    }
    for await (const slot of freeSlots(this.#store, cluster, request.node, options)) {
      const result = await this.#claim(request, claimOf(slot, cluster), cluster, options);
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
    cluster: ClusterView,
    options: CallOptions,
  ): Promise<Registration | Refusal> {
    const subnet = formatCidr(claim.subnet);
    const slot = encode({ node: request.node, uid: request.uid } satisfies SlotRecord);
    const result = await this.#store.txn(
      {
        if: [
          { key: keys.subnet(request.node), exists: false },
          { key: keys.config, modRevision: cluster.revision },
          // G1
          ...claim.conditions,
        ],
        then: [
          { put: keys.subnet(request.node), value: encode(subnet) },
          { put: keys.node(request.node), value: encode(this.#nodeRecord(request, subnet)) },
          ...claim.slots.map((cidr) => ({ put: keys.slot(formatCidr(cidr)), value: slot })),
          ...claim.extra,
          eventOperation(cluster.readAt, {
            time: this.#now().toISOString(),
            type: "node-registered",
            node: request.node,
            subnet,
            message: `${request.node} (${request.uid}) owns ${subnet}`,
          }),
        ],
        else: [{ get: keys.subnet(request.node) }, { get: keys.config }],
      },
      options,
    );
    if (result.succeeded) return this.#registration(request, subnet, result.revision, cluster);
    const [registered, config] = result.reads;
    return registered || config?.modRevision !== cluster.revision ? "outdated" : "taken";
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

  #nodeRecord(request: RegisterRequest, subnet: string): NodeRecord {
    return {
      uid: request.uid,
      ...(request.instanceID === undefined ? {} : { instanceID: request.instanceID }),
      status: "ready",
      lastSeen: this.#now().toISOString(),
      subnet,
      ...(request.platform === undefined ? {} : { platform: request.platform }),
      ...(request.subnetID === undefined ? {} : { subnetID: request.subnetID }),
      eniIDs: request.eniIDs ?? [],
      ...(request.zone === undefined ? {} : { zone: request.zone }),
      agentVersion: request.agentVersion,
      ...(request.leaseSource === undefined ? {} : { leaseSource: request.leaseSource }),
    };
  }

  #registration(
    request: RegisterRequest,
    subnet: string,
    epoch: Revision,
    cluster: ClusterView,
  ): Registration {
    return new Registration(this.#store, {
      node: request.node,
      uid: request.uid,
      subnet,
      epoch,
      config: cluster.config,
      now: this.#now,
    });
  }
}

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
