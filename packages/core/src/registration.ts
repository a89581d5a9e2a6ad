import { Backoff } from "./backoff.ts";
import { contains } from "./cidr.ts";
import { FencedError, InvalidError, NotFoundError, UnavailableError } from "./errors.ts";
import { eventOperation } from "./events.ts";
import { type Cidr, formatAddress, formatCidr, lastOf, parseAddress, parseCidr, sizeOf } from "./ipv4.ts";
import { keys, prefixes } from "./keys.ts";
import { listAll } from "./listing.ts";
import {
  type ClusterConfig,
  decode,
  encode,
  type LeaseRecord,
  leaseSchema,
  type NodeRecord,
  nodeSchema,
} from "./model.ts";
import { slotsOf } from "./slots.ts";
import type { CallOptions, Compare, Entry, Operation, Revision, Session, Store } from "./store.ts";

export interface RegistrationFields {
  readonly node: string;
  readonly uid: string;
  readonly subnet: string;
  /** Revision at which the node got the subnet. */
  readonly epoch: Revision;
  readonly config: ClusterConfig;
  readonly now?: () => Date;
}

/** One address's mirrored state: a lease, or `undefined` when it has none. */
export type MirrorChange = readonly [address: string, lease: LeaseRecord | undefined];

/** What the node itself may change in its record; status belongs to registration and controller. */
export type NodeUpdate = Partial<
  Pick<NodeRecord, "maxLeaseEnd" | "pool" | "eniIDs" | "subnetID" | "zone" | "agentVersion" | "leaseSource">
>;

/**
 * A node's ownership of its subnet. Every write compares the epoch (G3): a node whose subnet was taken away gets
 * {@link FencedError} and has changed nothing.
 */
export class Registration {
  readonly node: string;
  readonly uid: string;
  readonly subnet: string;
  readonly epoch: Revision;
  readonly config: ClusterConfig;
  readonly #store: Store;
  readonly #now: () => Date;
  readonly #block: Cidr;

  constructor(store: Store, fields: RegistrationFields) {
    this.node = fields.node;
    this.uid = fields.uid;
    this.subnet = fields.subnet;
    this.epoch = fields.epoch;
    this.config = fields.config;
    this.#store = store;
    this.#block = parseCidr(fields.subnet, "subnet");
    this.#now = fields.now ?? (() => new Date());
  }

  get fence(): Compare {
    return { key: keys.subnet(this.node), modRevision: this.epoch };
  }

  /** @throws {FencedError} when the epoch no longer holds. */
  async verify(options?: CallOptions): Promise<void> {
    await this.#write([], options);
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
   * last counts. Running it again is harmless. @throws {InvalidError} for an address outside the subnet.
   */
  async mirror(changes: readonly MirrorChange[], options?: CallOptions): Promise<void> {
    const newest = [...new Map(changes)];
    // G2: the epoch says nothing about another node's addresses.
    const foreign = newest.find(([address]) => !this.#covers(address));
    if (foreign)
      throw new InvalidError(`${foreign[0]} is outside ${this.subnet}, the subnet of node ${this.node}`);
    const size = this.#store.capabilities.maxOperations;
    for (let start = 0; start < newest.length; start += size) {
      const operations = newest
        .slice(start, start + size)
        .map(
          ([address, lease]): Operation =>
            lease ? { put: keys.pool(address), value: encode(lease) } : { delete: keys.pool(address) },
        );
      await this.#write(operations, options);
    }
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
   * Gives the subnet back: its slots, leases and the node's claim go in one step per transaction limit, the claim
   * last. Only for a node whose addresses the cloud no longer delivers (teardown has run), since it frees at once.
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
      (record) => ({ ...record, status: "left" }),
      (readAt) => [
        ...slotsOf(this.#block, this.config.nodePrefix).map(
          (slot): Operation => ({ delete: keys.slot(formatCidr(slot)) }),
        ),
        { delete: keys.alive(this.node) },
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

  /** Changes the node's record, and what belongs to that, without losing what others write into it meanwhile. */
  async #rewrite(
    change: (record: NodeRecord) => NodeRecord,
    more: (readAt: Revision) => readonly Operation[],
    options: CallOptions = {},
  ): Promise<void> {
    const key = keys.node(this.node);
    const backoff = new Backoff({ firstMs: 5, maxMs: 500 });
    for (let attempt = 1; ; attempt++) {
      const { reads, revision } = await this.#store.txn(
        { then: [{ get: key }, { get: keys.subnet(this.node) }] },
        options,
      );
      const [entry, owned] = reads;
      this.#requireOwned(owned);
      if (!entry) throw new NotFoundError(`${key} is missing although the node is registered`);
      const value = encode(change(decode(nodeSchema, entry)));
      const result = await this.#store.txn(
        {
          if: [this.fence, { key, modRevision: entry.modRevision }],
          then: [{ put: key, value }, ...more(revision)],
          else: [{ get: keys.subnet(this.node) }],
        },
        options,
      );
      if (result.succeeded) return;
      this.#requireOwned(result.reads[0]);
      if (attempt === 8) {
        throw new UnavailableError(`${key} kept changing while it was updated`, { outcome: "none" });
      }
      await backoff.wait(options.signal);
    }
  }

  async #write(operations: readonly Operation[], options?: CallOptions): Promise<Revision> {
    const result = await this.#store.txn(
      { if: [this.fence], then: operations, else: [{ get: keys.subnet(this.node) }] },
      options,
    );
    if (!result.succeeded) throw this.#fenced(result.reads[0]);
    return result.revision;
  }

  #covers(address: string): boolean {
    return contains(this.#block, parseAddress(address));
  }

  #requireOwned(owned: Entry | undefined): void {
    if (owned?.modRevision !== this.epoch) throw this.#fenced(owned);
  }

  #fenced(owned: Entry | undefined): FencedError {
    return new FencedError(
      `node ${this.node} no longer owns ${this.subnet} (epoch ${this.epoch}): ${
        owned === undefined
          ? "its registration is gone"
          : `its name is registered anew with ${owned.value} (epoch ${owned.modRevision})`
      }`,
      {
        hint: "its addresses were reclaimed; run `cocoon-net init` or `adopt` again to join with a new subnet",
      },
    );
  }
}

/** Text prefixes of the dotted addresses of a block, that together cover it, and whole octets around its ends. */
function textPrefixes(block: Cidr): string[] {
  const octets = block.prefix > 16 ? 3 : block.prefix > 8 ? 2 : 1;
  const prefixes: string[] = [];
  for (let base = block.base; base <= lastOf(block); base += sizeOf(octets * 8)) {
    prefixes.push(`${formatAddress(base).split(".").slice(0, octets).join(".")}.`);
  }
  return prefixes;
}
