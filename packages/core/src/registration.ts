import { Backoff } from "./backoff.ts";
import { placeOf, requireHere, standingEpoch } from "./cluster-place.ts";
import { ConflictError, FencedError, InvalidError, NotFoundError } from "./errors.ts";
import { eventOperation } from "./events.ts";
import {
  type Address,
  type Cidr,
  formatAddress,
  formatCidr,
  lastOf,
  parseAddress,
  parseCidr,
  sizeOf,
} from "./ipv4.ts";
import { keptChanging } from "./kept-changing.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import { MirrorFence } from "./mirror-fence.ts";
import {
  type ClusterConfig,
  decode,
  encode,
  type LeaseRecord,
  leaseSchema,
  type NodeRecord,
  nodeSchema,
} from "./model.ts";
import { type NodeDescription, withEnded } from "./node-record.ts";
import { reassert } from "./reassertion.ts";
import { Recovery } from "./recovery.ts";
import { slotsOf } from "./slots.ts";
import type { CallOptions, Compare, Entry, Operation, Revision, Session, Store } from "./store.ts";

export interface RegistrationFields {
  readonly node: string;
  readonly uid: string;
  readonly subnet: string;
  /** Revision at which the node got the subnet. */
  readonly epoch: Revision;
  /** The store's incarnation in which that was last proved. Without it a lost claim is taken for an ended one. */
  readonly incarnation?: string | undefined;
  readonly config: ClusterConfig;
  /** What the node's record shall say if the store has lost it. */
  readonly about?: NodeDescription | undefined;
  /** `epoch` or `incarnation` has changed: a node that outlives its process writes both down. */
  readonly onChanged?: ((registration: Registration) => void | Promise<void>) | undefined;
  readonly now?: (() => Date) | undefined;
  /** Shared with whoever made the registration; default its own. */
  readonly recovery?: Recovery | undefined;
}

const rounds = 8;

/** One address's mirrored state: a lease, or `undefined` when it has none. */
export type MirrorChange = readonly [address: string, lease: LeaseRecord | undefined];

/** What the node itself may change in its record; status belongs to registration and controller. */
export type NodeUpdate = Partial<
  Pick<
    NodeRecord,
    | "maxLeaseEnd"
    | "pool"
    | "eniIDs"
    | "subnetID"
    | "zone"
    | "region"
    | "network"
    | "agentVersion"
    | "leaseSource"
    | "gateway"
    | "grantsStopped"
    | "runningSince"
  >
>;

/**
 * A node's ownership of its subnet. Every write compares the epoch (G3): a node whose subnet was taken away gets
 * {@link FencedError} and has changed nothing. A store that has lost the claim is told it again instead (G8); see
 * {@link confirm}.
 */
export class Registration {
  readonly node: string;
  readonly uid: string;
  readonly subnet: string;
  readonly config: ClusterConfig;
  readonly #store: Store;
  readonly #about: NodeDescription;
  readonly #onChanged: (registration: Registration) => void | Promise<void>;
  readonly #now: () => Date;
  readonly #block: Cidr;
  readonly #lastAddress: Address;
  readonly #recovery: Recovery;
  readonly #mirrorFence: MirrorFence;
  #epoch: Revision;
  #incarnation: string | undefined;

  constructor(store: Store, fields: RegistrationFields) {
    this.node = fields.node;
    this.uid = fields.uid;
    this.subnet = fields.subnet;
    this.config = fields.config;
    this.#store = store;
    this.#about = fields.about ?? { agentVersion: "unknown" };
    this.#onChanged = fields.onChanged ?? (() => {});
    this.#now = fields.now ?? (() => new Date());
    this.#block = parseCidr(fields.subnet, "subnet");
    this.#lastAddress = lastOf(this.#block);
    this.#recovery = fields.recovery ?? new Recovery(store, { now: fields.now });
    this.#mirrorFence = new MirrorFence(fields.node);
    this.#epoch = fields.epoch;
    this.#incarnation = fields.incarnation;
  }

  get epoch(): Revision {
    return this.#epoch;
  }

  get incarnation(): string | undefined {
    return this.#incarnation;
  }

  get fence(): Compare {
    return { key: keys.subnet(this.node), modRevision: this.epoch };
  }

  /** @throws {FencedError} when the epoch no longer holds. */
  async verify(options?: CallOptions): Promise<void> {
    await this.#write([], options);
  }

  /**
   * Proves the ownership in the incarnation that the store is in now. A claim that is missing has ended, unless the
   * store may have lost writes since the last proof: then it is asserted again, under a new epoch, where nothing
   * speaks against it. Writes that find their epoch refused come here too, and go on when it stands.
   * @throws {FencedError} when the subnet is somebody else's or the ownership has ended; {@link ConflictError} when the
   * store is empty, is being filled by a copy or holds another cluster, which says nothing about it (G8), and while
   * another owner is on record in a store that is recovering.
   */
  async confirm(options?: CallOptions): Promise<void> {
    for (let round = 1; round <= rounds; round++) {
      const names = [keys.subnet(this.node), keys.epochs(this.node), keys.node(this.node)];
      const look = await this.#recovery.look(names, { ...options, clusterUID: this.config.clusterUID });
      const [claim, mark, about] = look.reads;
      const { id } = look.incarnation;
      if (placeOf(look.config).state === "incoming") requireHere(look.config, this.#store.label);
      const standing = standingEpoch(this, claim, mark, about);
      if (standing !== undefined) return this.#adopt(standing, id);
      // G3: whatever has gone, went after the last proof.
      if (this.#incarnation === undefined || this.#incarnation === id) throw this.#fenced(claim);
      // Somebody has claimed under this name; a claim that the loss has just overtaken is undone in the window.
      if (claim && !look.incarnation.recovering) throw this.#fenced(claim);
      if (claim) throw this.#undecided(claim);
      const { node, uid, subnet, epoch: before, config } = this;
      const former = { node, uid, subnet, epoch: before, config, about: this.#about };
      const epoch = await reassert(this.#store, former, look, this.#now(), options);
      if (epoch !== undefined) return this.#adopt(epoch, id);
    }
    throw keptChanging(keys.subnet(this.node), "it was confirmed");
  }

  /**
   * Ties `alive/{node}` to the session. Its absence, and nothing else, makes the node suspect. The answer is a
   * revision at which the node owned its subnet.
   */
  async announce(session: Session, options?: CallOptions): Promise<Revision> {
    const value = encode({ uid: this.uid, since: this.#now().toISOString() });
    return this.#write([{ put: keys.alive(this.node), value, session }], options);
  }

  /**
   * Writes leases to the store, in as many transactions as its limits ask for. Of several changes of one address the
   * last counts. Running it again is harmless, but not across {@link acknowledgeMove}: what the node then says it does
   * not write about any more must not be in a call that has not ended. @throws {InvalidError} for an address outside the
   * subnet; {@link ConflictError} when another process has said so for this node: look again what it serves.
   */
  async mirror(changes: readonly MirrorChange[], options?: CallOptions): Promise<void> {
    const operations: Operation[] = [];
    for (const [address, lease] of new Map(changes)) {
      // G2: the epoch says nothing about another node's addresses.
      if (!this.#covers(address)) {
        throw new InvalidError(`${address} is outside ${this.subnet}, the subnet of node ${this.node}`);
      }
      const key = keys.pool(address);
      operations.push(lease ? { put: key, value: encode(lease) } : { delete: key });
    }
    const size = this.#store.capabilities.maxOperations;
    for (let start = 0; start < operations.length; start += size) {
      const some = operations.slice(start, start + size);
      await this.#mirrorFence.write(this.#store, this, some, options);
    }
  }

  /** This node has said that it acts by a move: mirrors that were sent before that no longer count. */
  hasActed(intent: string): void {
    this.#mirrorFence.acted(intent);
  }

  /** What the store holds about this subnet, by address. */
  async mirrored(options?: CallOptions): Promise<Map<string, LeaseRecord>> {
    const leases = new Map<string, LeaseRecord>();
    for (const prefix of textPrefixes(this.#block)) {
      for (const entry of (await listAll(this.#store, prefixes.pool + prefix, options)).entries) {
        const address = entry.key.slice(prefixes.pool.length);
        if (this.#covers(address)) leases.set(address, decode(leaseSchema, entry));
      }
    }
    return leases;
  }

  /** Updates the node's record and its `lastSeen`; fields it does not know are kept. */
  async update(change: NodeUpdate, options?: CallOptions): Promise<void> {
    await this.#rewrite(
      (record) => ({ ...record, ...change, lastSeen: this.#now().toISOString() }),
      () => [],
      options,
    );
  }

  /**
   * The node drains by itself, as it would for an operator, because its machine is about to end; undefined undoes that.
   * Nothing changes where somebody else has decided already that the node leaves.
   */
  async depart(why: string | undefined, options?: CallOptions): Promise<void> {
    const message =
      why === undefined
        ? `${this.node} stays, and may grant again`
        : `${this.node} is about to leave, and grants nothing new: ${why}`;
    await this.#rewrite(
      ({ departs, ...record }) => {
        if (why === undefined) {
          if (record.status !== "draining" || departs === undefined) return undefined;
          const { grantsStopped: _, ...staying } = record;
          return { ...staying, status: "ready" };
        }
        if (record.status !== "ready" && record.status !== "suspect") return undefined;
        return { ...record, status: "draining", departs: why };
      },
      (readAt) => [
        eventOperation(readAt, {
          time: this.#now().toISOString(),
          type: why === undefined ? "drain-cancelled" : "drain-requested",
          reason: "instance-ends",
          node: this.node,
          subnet: this.subnet,
          message,
        }),
      ],
      options,
    );
  }

  /**
   * Gives the subnet back: its slots, leases and the node's claim go in one step per transaction limit, the claim
   * last. Only for a node whose addresses the cloud no longer delivers, since it frees at once, and that neither serves
   * moved addresses nor has some away; `cocoon-net teardown` sees to both, and a running node is drained instead.
   */
  async leave(options?: CallOptions): Promise<void> {
    try {
      await this.#leave(options);
    } catch (error) {
      // An earlier try whose answer was lost did it all.
      if (!(error instanceof FencedError) || !(await this.#hasLeft(options))) throw error;
    }
  }

  async #hasLeft(options?: CallOptions): Promise<boolean> {
    const { reads } = await this.#store.txn(
      { then: [{ get: keys.subnet(this.node) }, { get: keys.node(this.node) }] },
      options,
    );
    const [owned, entry] = reads;
    const record = entry && decode(nodeSchema, entry);
    return owned === undefined && record?.uid === this.uid && record.status === "left";
  }

  async #leave(options?: CallOptions): Promise<void> {
    const leases = await this.mirrored(options);
    await this.mirror(
      [...leases.keys()].map((address) => [address, undefined]),
      options,
    );
    await this.#rewrite(
      (record, claim, mark) => ({ ...withEnded(record, claim, mark), status: "left" }),
      (readAt) => [
        ...slotsOf(this.#block, this.config.nodePrefix).map(
          (slot): Operation => ({ delete: keys.slot(formatCidr(slot)) }),
        ),
        { delete: keys.alive(this.node) },
        { delete: keys.acted(this.node) },
        { delete: keys.subnet(this.node) },
        eventOperation(readAt, {
          time: this.#now().toISOString(),
          type: "node-left",
          node: this.node,
          subnet: this.subnet,
          message: `${this.node} gave ${this.subnet} back`,
        }),
      ],
      options,
    );
  }

  /**
   * Changes the node's record, and what belongs to that, without losing what others write into it meanwhile; undefined
   * changes nothing.
   */
  async #rewrite(
    change: (record: NodeRecord, claim: Entry, mark: Entry | undefined) => NodeRecord | undefined,
    more: (readAt: Revision) => readonly Operation[],
    options: CallOptions = {},
  ): Promise<void> {
    const key = keys.node(this.node);
    const backoff = new Backoff({ firstMs: 5, maxMs: 500 });
    for (let attempt = 1; attempt <= rounds; attempt++) {
      const { reads, revision } = await this.#store.txn(
        { then: [{ get: key }, { get: keys.subnet(this.node) }, { get: keys.epochs(this.node) }] },
        options,
      );
      const [entry, claim, mark] = reads;
      if (claim?.modRevision !== this.epoch) {
        await this.confirm(options);
        continue;
      }
      if (!entry) throw new NotFoundError(`${key} is missing although the node is registered`);
      const record = change(decode(nodeSchema, entry), claim, mark);
      if (record === undefined) return;
      const value = encode(record);
      const { succeeded } = await this.#store.txn(
        {
          if: [this.fence, { key, modRevision: entry.modRevision }],
          then: [{ put: key, value }, ...more(revision)],
        },
        options,
      );
      if (succeeded) return;
      await backoff.wait(options.signal);
    }
    throw keptChanging(key, "it was updated");
  }

  async #write(operations: readonly Operation[], options?: CallOptions): Promise<Revision> {
    for (let attempt = 1; attempt <= rounds; attempt++) {
      const { succeeded, revision } = await this.#store.txn({ if: [this.fence], then: operations }, options);
      if (succeeded) return revision;
      await this.confirm(options);
    }
    throw keptChanging(keys.subnet(this.node), "it was written under");
  }

  async #adopt(epoch: Revision, incarnation: string): Promise<void> {
    if (epoch === this.epoch && incarnation === this.incarnation) return;
    this.#epoch = epoch;
    this.#incarnation = incarnation;
    await this.#onChanged(this);
  }

  #covers(address: string): boolean {
    const at = parseAddress(address);
    return at >= this.#block.base && at <= this.#lastAddress;
  }

  #fenced(claim: Entry | undefined): FencedError {
    return new FencedError(`${this.#lost}: ${claim ? registeredAnew(claim) : "its registration is gone"}`, {
      hint: "its addresses were reclaimed; run `cocoon-net init` or `adopt` again to join with a new subnet",
    });
  }

  /** Nobody is fenced while the store recovers. */
  #undecided(claim: Entry): ConflictError {
    return new ConflictError(
      `${this.#lost}, it seems: ${registeredAnew(claim)}, and the store is recovering`,
      {
        hint: "nothing new is granted until the store has recovered",
      },
    );
  }

  get #lost(): string {
    return `node ${this.node} no longer owns ${this.subnet} (epoch ${this.epoch})`;
  }
}

function registeredAnew(claim: Entry): string {
  return `its name is registered anew with ${claim.value} (epoch ${claim.modRevision})`;
}

/** Text prefixes of the dotted addresses of a block, that together cover it, and whole octets around its ends. */
export function textPrefixes(block: Cidr): string[] {
  const octets = block.prefix > 16 ? 3 : block.prefix > 8 ? 2 : 1;
  const prefixes: string[] = [];
  for (let base = block.base; base <= lastOf(block); base += sizeOf(octets * 8)) {
    prefixes.push(`${formatAddress(base).split(".").slice(0, octets).join(".")}.`);
  }
  return prefixes;
}
