import { Backoff } from "./backoff.ts";
import { type ClusterView, readCluster } from "./cluster-config.ts";
import { CocoonError, ConflictError, ExhaustedError, UnavailableError } from "./errors.ts";
import { eventOperation } from "./events.ts";
import { type Cidr, formatCidr, parseCidr } from "./ipv4.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import {
  decode,
  encode,
  type NodeRecord,
  nodeSchema,
  type QuarantineRecord,
  quarantineSchema,
  type SlotRecord,
  slotSchema,
} from "./model.ts";
import { Registration } from "./registration.ts";
import { candidateSlot, checkSubnet, SlotTable, slotsOf } from "./slots.ts";
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

const roundsOfProbing = 6;
const slotsPerProbe = 32;

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
   * {@link ExhaustedError} when the parent CIDR is full; {@link InvalidError} for a subnet outside the parent.
   */
  async register(request: RegisterRequest, options: CallOptions = {}): Promise<Registration> {
    checkName(request.node);
    const explicit = request.subnet === undefined ? undefined : parseCidr(request.subnet, "subnet");
    const backoff = new Backoff({ firstMs: 20, maxMs: 2_000 });
    const problems: unknown[] = [];
    // Conflicts among nodes registering at once are settled by the probes below; the rounds here only serve
    // lost answers and configuration changes.
    for (let round = 0; round < 8; round++) {
      try {
        const cluster = await readCluster(this.#store, options);
        if (explicit) checkSubnet(explicit, { ...cluster, nodePrefix: cluster.config.nodePrefix });
        const found = await this.#existing(request, explicit, cluster, options);
        if (found) return found;
        const registration = await this.#claimSome(request, explicit, cluster, options);
        if (registration) return registration;
      } catch (error) {
        options.signal?.throwIfAborted();
        if (!(error instanceof UnavailableError)) throw error;
        problems.push(error);
      }
      await backoff.wait(options.signal);
    }
    throw problems.at(-1) instanceof CocoonError
      ? problems.at(-1)
      : new ConflictError(`node ${request.node} found no slot that stayed free while it registered`, {
          hint: "try again",
        });
  }

  /** The slot that the next node would get, without taking it. */
  async nextFree(options: CallOptions = {}): Promise<string> {
    return formatCidr(await this.#lowestFree(await readCluster(this.#store, options), options));
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
  ): Promise<Registration | undefined> {
    const own = await this.#quarantinedClaim(request, explicit, cluster, options);
    if (own) {
      const registration = await this.#claim(request, own, cluster, options);
      if (registration) return registration;
    }
    if (explicit) {
      const registration = await this.#claim(request, claimOf(explicit, cluster), cluster, options);
      if (registration) return registration;
      throw await this.#ownerConflict(explicit, cluster, options);
    }
    // People like to see .0, .1, .2: the lowest free slot first. Nodes that lose that race spread out by the
    // hash of their names, or a thousand of them would collide a thousand times.
    const lowest = await this.#lowestFree(cluster, options);
    const first = await this.#claim(request, claimOf(lowest, cluster), cluster, options);
    if (first) return first;
    for (let round = 0; round < roundsOfProbing; round++) {
      for (const slot of await this.#probe(request.node, round, cluster, options)) {
        const registration = await this.#claim(request, claimOf(slot, cluster), cluster, options);
        if (registration) return registration;
      }
    }
    return this.#claim(request, claimOf(await this.#lowestFree(cluster, options), cluster), cluster, options);
  }

  /** The node's former block, when it is still in quarantine: nobody else has used it, so it may return. */
  async #quarantinedClaim(
    request: RegisterRequest,
    explicit: Cidr | undefined,
    cluster: ClusterView,
    options: CallOptions,
  ): Promise<Claim | undefined> {
    const { entries } = await listAll(this.#store, prefixes.quarantine, options);
    for (const entry of entries) {
      const record: QuarantineRecord = decode(quarantineSchema, entry);
      const subnet = parseCidr(entry.key.slice(prefixes.quarantine.length));
      if (record.uid !== request.uid) continue;
      if (explicit && formatCidr(explicit) !== formatCidr(subnet)) continue;
      const slots = slotsOf(subnet, cluster.config.nodePrefix);
      const held = encode({ node: "", uid: record.uid } satisfies SlotRecord);
      return {
        subnet,
        slots,
        conditions: [
          { key: entry.key, modRevision: entry.modRevision },
          ...slots.map((slot) => ({ key: keys.slot(formatCidr(slot)), value: held })),
        ],
        extra: [{ delete: entry.key }],
      };
    }
    return undefined;
  }

  async #lowestFree(cluster: ClusterView, options: CallOptions): Promise<Cidr> {
    const table = new SlotTable(cluster.parent, cluster.config.nodePrefix, cluster.reserved);
    for (const entry of (await listAll(this.#store, prefixes.slots, options)).entries) {
      table.take(parseCidr(entry.key.slice(prefixes.slots.length)));
    }
    const slot = table.lowestFree();
    if (slot) return slot;
    throw new ExhaustedError(
      `no free /${cluster.config.nodePrefix} is left in ${cluster.config.parentCIDR} (${table.total} slots)`,
      { hint: "reclaim nodes that are gone, or wait for a quarantine to end (`cocoon-net cluster subnets`)" },
    );
  }

  /** A few free ones among the hash candidates of this round, in one read-only transaction. */
  async #probe(node: string, round: number, cluster: ClusterView, options: CallOptions): Promise<Cidr[]> {
    const candidates = new Map<string, Cidr>();
    for (let i = 0; i < slotsPerProbe; i++) {
      const slot = candidateSlot(
        { ...cluster, nodePrefix: cluster.config.nodePrefix },
        node,
        round * slotsPerProbe + i,
      );
      candidates.set(formatCidr(slot), slot);
    }
    const table = new SlotTable(cluster.parent, cluster.config.nodePrefix, cluster.reserved);
    const allowed = [...candidates].filter(([, slot]) => table.isFree(slot));
    const { reads } = await this.#store.txn(
      { then: allowed.map(([cidr]) => ({ get: keys.slot(cidr) })) },
      options,
    );
    return allowed
      .filter((_, index) => reads[index] === undefined)
      .map(([, slot]) => slot)
      .slice(0, 4);
  }

  async #claim(
    request: RegisterRequest,
    claim: Claim,
    cluster: ClusterView,
    options: CallOptions,
  ): Promise<Registration | undefined> {
    const subnet = formatCidr(claim.subnet);
    const slot = encode({ node: request.node, uid: request.uid } satisfies SlotRecord);
    const result = await this.#store.txn(
      {
        if: [
          { key: keys.subnet(request.node), exists: false },
          { key: keys.config, modRevision: cluster.revision },
          ...claim.conditions,
        ],
        then: [
          { put: keys.subnet(request.node), value: encode(subnet) },
          { put: keys.node(request.node), value: encode(this.#nodeRecord(request, subnet)) },
          ...claim.slots.map((cidr) => ({ put: keys.slot(formatCidr(cidr)), value: slot })),
          ...claim.extra,
          eventOperation(cluster.revision, {
            time: this.#now().toISOString(),
            type: "node-registered",
            node: request.node,
            subnet,
            message: `${request.node} (${request.uid}) owns ${subnet}`,
          }),
        ],
      },
      options,
    );
    return result.succeeded ? this.#registration(request, subnet, result.revision, cluster) : undefined;
  }

  async #ownerConflict(subnet: Cidr, cluster: ClusterView, options: CallOptions): Promise<CocoonError> {
    for (const slot of slotsOf(subnet, cluster.config.nodePrefix)) {
      const { entry } = await this.#store.get(keys.slot(formatCidr(slot)), options);
      if (!entry) continue;
      const owner = decode(slotSchema, entry).node;
      const who = owner === "" ? "is in quarantine" : `belongs to node ${owner}`;
      return new ConflictError(`subnet ${formatCidr(subnet)} overlaps ${formatCidr(slot)}, which ${who}`, {
        hint: "choose another --subnet, or leave it out to get a free one",
      });
    }
    return new UnavailableError(`subnet ${formatCidr(subnet)} could not be taken`, { outcome: "none" });
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
  throw new ConflictError(`node name "${node}" is not a host name (letters, digits, dots and dashes)`);
}
