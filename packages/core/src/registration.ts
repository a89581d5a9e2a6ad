import { FencedError, NotFoundError, UnavailableError } from "./errors.ts";
import { eventOperation } from "./events.ts";
import { type Cidr, formatAddress, lastOf, parseCidr, sizeOf } from "./ipv4.ts";
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
import type { CallOptions, Compare, Operation, Revision, Session, Store } from "./store.ts";

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

  constructor(store: Store, fields: RegistrationFields) {
    this.node = fields.node;
    this.uid = fields.uid;
    this.subnet = fields.subnet;
    this.epoch = fields.epoch;
    this.config = fields.config;
    this.#store = store;
    this.#now = fields.now ?? (() => new Date());
  }

  get fence(): Compare {
    return { key: keys.subnet(this.node), modRevision: this.epoch };
  }

  /** @throws {FencedError} when the epoch no longer holds. */
  async verify(options?: CallOptions): Promise<void> {
    await this.#write([], options);
  }

  /** Ties `alive/{node}` to the session. Its absence, and nothing else, makes the node suspect. */
  async announce(session: Session, options?: CallOptions): Promise<void> {
    const value = encode({ uid: this.uid, since: this.#now().toISOString() });
    await this.#write([{ put: keys.alive(this.node), value, session }], options);
  }

  /** Writes leases to the store, in as many transactions as its limits ask for. Running it again is harmless. */
  async mirror(changes: readonly MirrorChange[], options?: CallOptions): Promise<void> {
    const size = this.#store.capabilities.maxOperations;
    for (let start = 0; start < changes.length; start += size) {
      const operations = changes
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
    const subnet = parseCidr(this.subnet);
    const leases = new Map<string, LeaseRecord>();
    for (const prefix of textPrefixes(subnet)) {
      for (const entry of (await listAll(this.#store, prefixes.pool + prefix, options)).entries) {
        leases.set(entry.key.slice(prefixes.pool.length), decode(leaseSchema, entry));
      }
    }
    return leases;
  }

  /** Updates the node's record and its `lastSeen`; fields it does not know are kept. */
  async update(change: NodeUpdate, options?: CallOptions): Promise<void> {
    for (let attempt = 0; attempt < 8; attempt++) {
      const { entry } = await this.#store.get(keys.node(this.node), options);
      if (!entry)
        throw new NotFoundError(`${keys.node(this.node)} is missing although the node is registered`);
      const record = { ...decode(nodeSchema, entry), ...change, lastSeen: this.#now().toISOString() };
      const result = await this.#store.txn(
        {
          if: [this.fence, { key: entry.key, modRevision: entry.modRevision }],
          then: [{ put: entry.key, value: encode(record) }],
          else: [{ get: keys.subnet(this.node) }],
        },
        options,
      );
      if (result.succeeded) return;
      if (result.reads[0]?.modRevision !== this.epoch) throw this.#fenced(result.reads[0]?.value);
    }
    throw new UnavailableError(`${keys.node(this.node)} kept changing while it was updated`, {
      outcome: "none",
    });
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
    const { entry } = await this.#store.get(keys.node(this.node), options);
    const slots = slotsOf(parseCidr(this.subnet), this.config.nodePrefix);
    await this.#write(
      [
        ...slots.map(
          (slot): Operation => ({ delete: keys.slot(`${formatAddress(slot.base)}/${slot.prefix}`) }),
        ),
        { delete: keys.alive(this.node) },
        ...(entry
          ? [
              {
                put: entry.key,
                value: encode({ ...decode(nodeSchema, entry), status: "left" }),
              } satisfies Operation,
            ]
          : []),
        eventOperation(this.epoch, {
          time: this.#now().toISOString(),
          type: "node-left",
          node: this.node,
          subnet: this.subnet,
          message: `${this.node} gave ${this.subnet} back`,
        }),
        { delete: keys.subnet(this.node) },
      ],
      options,
    );
  }

  async #write(operations: readonly Operation[], options?: CallOptions): Promise<void> {
    const result = await this.#store.txn(
      { if: [this.fence], then: operations, else: [{ get: keys.subnet(this.node) }] },
      options,
    );
    if (!result.succeeded) throw this.#fenced(result.reads[0]?.value);
  }

  #fenced(now: string | undefined): FencedError {
    return new FencedError(
      `node ${this.node} no longer owns ${this.subnet} (epoch ${this.epoch}): ${
        now === undefined ? "its registration is gone" : `it is registered anew with ${now}`
      }`,
      {
        hint: "its addresses were reclaimed; run `cocoon-net init` or `adopt` again to join with a new subnet",
      },
    );
  }
}

/** Text prefixes of the dotted addresses of a block: one for a /24 or longer, one per /24 for a wider block. */
function textPrefixes(subnet: Cidr): string[] {
  const third = Math.max(1, sizeOf(subnet.prefix) / 256);
  return Array.from({ length: third }, (_, i) => {
    const address = formatAddress(Math.min(subnet.base + i * 256, lastOf(subnet)));
    return address.slice(0, address.lastIndexOf(".") + 1);
  });
}
