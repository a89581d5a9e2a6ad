import { type Address, formatAddress } from "@cocoon-net/core";
import type { Grant } from "./decision.ts";
import type { Lease } from "./lease.ts";
import type { Reservation } from "./reservation.ts";
import { SlotHeap } from "./slot-heap.ts";
import { SlotQueue } from "./slot-queue.ts";

export type AddressState = "free" | "offered" | "leased" | "cooling" | "declined" | "reserved";

/** How many addresses are in each state. */
export interface PoolCounts {
  readonly free: number;
  readonly offered: number;
  readonly leased: number;
  readonly cooling: number;
  readonly declined: number;
  readonly reserved: number;
  /** The size of the pool: the sum of the above, always (G10). */
  readonly pool: number;
  /** Live leases of addresses that left the pool: kept until they end, never renewed, never given to others. */
  readonly outside: number;
}

/** What outlives a lease. Without a MAC nobody inherits it. */
export type LastLease = Partial<Pick<Lease, "mac" | "clientID">> & Pick<Lease, "expiry" | "seq">;

/** One address. Only `AddressTable.move` changes `state` and `until`. */
export interface Slot {
  readonly address: Address;
  readonly ip: string;
  inPool: boolean;
  /** In the pool and not reserved for nobody; or a moved guest's, which is in no pool here. */
  grantable: boolean;
  /** Whose address it is while it is in the pool. */
  reservation: Reservation | undefined;
  state: AddressState | "outside";
  /** When the state ends, ms since the epoch; Infinity when nothing ends it. */
  until: number;
  /** The identity that holds it: offered or leased. */
  holder: string | undefined;
  /** Set while leased. */
  lease: Lease | undefined;
  /** The proposed grant, and until when the offer beneath it holds (0: there was none). */
  pending:
    | {
        readonly slot: Slot;
        readonly grant: Grant;
        readonly offeredUntil: number;
        readonly at: number;
        isVoid: boolean;
      }
    | undefined;
  /** The newest lease there was; it stays after its end, so that its client can have the address again. */
  last: LastLease | undefined;
  /** Before this time only the last holder may have it. */
  coolUntil: number;
  /** Until when a DECLINE puts it aside. */
  declinedUntil: number;
  /** Who declined it, while it is aside. */
  declinedBy: string | undefined;
  /** The bridge port that its holder is behind, as far as that is known. */
  port: string | undefined;
  queue: SlotQueue | undefined;
  before: Slot | undefined;
  after: Slot | undefined;
  /** Its place in the heap of what ends, and the end it got that for: `until` may have moved ahead since. */
  heapIndex: number;
  placedUntil: number;
}

/** Every address of the pool, its state, and what ends when. Each operation is O(log n) or better. */
export class AddressTable {
  readonly #slots = new Map<Address, Slot>();
  /** Free and never leased, in pool order. */
  readonly #fresh = new SlotQueue();
  /** Free again, the longest free first. */
  readonly #freed = new SlotQueue();
  /** Offered, the oldest offer first. */
  readonly #offers = new SlotQueue();
  readonly #timed = new SlotHeap();
  readonly #holdersBehind = new Map<string, number>();
  readonly #declinedBy = new Map<string, number>();
  readonly #counts = { free: 0, offered: 0, leased: 0, cooling: 0, declined: 0, reserved: 0 };
  #outside = 0;

  get(address: Address): Slot | undefined {
    return this.#slots.get(address);
  }

  slots(): Iterable<Slot> {
    return this.#slots.values();
  }

  counts(): PoolCounts {
    const { free, offered, leased, cooling, declined, reserved } = this.#counts;
    const pool = free + offered + leased + cooling + declined + reserved;
    return { free, offered, leased, cooling, declined, reserved, pool, outside: this.#outside };
  }

  /** The address a new client gets: never used before, else free for the longest time. */
  nextFree(): Slot | undefined {
    return this.#fresh.first ?? this.#freed.first;
  }

  /** The address that was offered longest ago and not requested since, if it was to end at or before `until`. */
  oldestOffer(until: number): Slot | undefined {
    const slot = this.#offers.first;
    return slot !== undefined && slot.until <= until ? slot : undefined;
  }

  /** Offers and leases behind a bridge port. */
  holdersBehind(port: string): number {
    return this.#holdersBehind.get(port) ?? 0;
  }

  setPort(slot: Slot, port: string | undefined): void {
    if (slot.port === port) return;
    addTo(this.#holdersBehind, slot.port, -1);
    slot.port = port;
    addTo(this.#holdersBehind, port, 1);
  }

  /** Addresses that are aside because of this client, or of the clients behind this port. */
  declinesOf(who: string): number {
    return this.#declinedBy.get(who) ?? 0;
  }

  setDeclinedBy(slot: Slot, who: string | undefined): void {
    addTo(this.#declinedBy, slot.declinedBy, -1);
    slot.declinedBy = who;
    addTo(this.#declinedBy, who, 1);
  }

  /** The slot whose state has to end at or before `now`, the earliest first. */
  due(now: number): Slot | undefined {
    return this.#timed.firstBy(now);
  }

  nextDue(): number | undefined {
    return this.#timed.first?.until;
  }

  /** Adds an address that is not in the pool, for a lease that was given when it was. */
  addOutside(address: Address): Slot {
    const slot = newSlot(address);
    this.#slots.set(address, slot);
    return slot;
  }

  /**
   * Replaces the pool, and the addresses outside it that are served to those they are reserved for (`guests`). Leases and proposed grants stay; the offers of addresses that left it, or are now for somebody
   * else, end.
   */
  setPool(
    pool: Iterable<Address>,
    reserved: ReadonlySet<Address>,
    reservationAt: (address: Address) => Reservation | undefined,
    now: number,
    guests: ReadonlySet<Address>,
  ): void {
    const wanted = new Set(pool);
    for (const address of guests) if (!this.#slots.has(address)) this.addOutside(address);
    for (const slot of [...this.#slots.values()]) {
      if (wanted.has(slot.address)) continue;
      const isGuest = guests.has(slot.address);
      this.#admit(slot, false, isGuest);
      slot.reservation = isGuest ? reservationAt(slot.address) : undefined;
      if (slot.state !== "leased" && slot.pending === undefined) this.rest(slot, now);
    }
    for (const address of wanted) {
      let slot = this.#slots.get(address);
      if (slot === undefined) {
        slot = newSlot(address);
        this.#slots.set(address, slot);
      }
      this.#admit(slot, true, !reserved.has(address));
      const reservation = reservationAt(address);
      const reassigned = slot.reservation !== reservation;
      slot.reservation = reservation;
      if (slot.state === "leased" || slot.pending !== undefined) continue;
      // An offer goes on, and a free address keeps its place in the queue.
      const settled = slot.state === "free" || slot.state === "offered";
      if (!settled || !slot.grantable || reassigned) this.rest(slot, now);
    }
  }

  #admit(slot: Slot, inPool: boolean, grantable: boolean): void {
    this.#count(slot, -1);
    slot.inPool = inPool;
    slot.grantable = grantable;
    this.#count(slot, 1);
  }

  /** The one place where an address changes state (G10). */
  move(slot: Slot, state: AddressState | "outside", until: number = Number.POSITIVE_INFINITY): void {
    slot.queue?.remove(slot);
    this.#count(slot, -1);
    slot.state = state;
    slot.until = until;
    this.#count(slot, 1);
    if (state === "free") (isFresh(slot) ? this.#fresh : this.#freed).push(slot);
    // What is offered to the one whose it is does not give way to others.
    else if (state === "offered" && until !== Number.POSITIVE_INFINITY && slot.reservation === undefined) {
      this.#offers.push(slot);
    }
    if (state !== "declined" && slot.declinedBy !== undefined) this.setDeclinedBy(slot, undefined);
    // A pending grant goes on to an end soon.
    if (until === Number.POSITIVE_INFINITY && slot.pending === undefined) this.#timed.remove(slot);
    else if (until !== Number.POSITIVE_INFINITY) this.#timed.place(slot);
  }

  /** Moves an address that nobody holds to where it belongs. */
  rest(slot: Slot, now: number): void {
    slot.holder = undefined;
    slot.lease = undefined;
    this.setPort(slot, undefined);
    const coming = Math.max(slot.declinedUntil, slot.coolUntil);
    if (!slot.inPool) {
      // It stays known while it cools, in case the pool grows back over it; it is in no free list meanwhile.
      this.move(slot, "outside", coming > now ? coming : undefined);
      if (coming <= now && !slot.grantable) this.#slots.delete(slot.address);
    } else if (!slot.grantable) this.move(slot, "reserved");
    else if (slot.declinedUntil > now) this.move(slot, "declined", slot.declinedUntil);
    else if (slot.coolUntil > now) this.move(slot, "cooling", slot.coolUntil);
    else this.move(slot, slot.reservation === undefined ? "free" : "reserved");
  }

  #count(slot: Slot, step: 1 | -1): void {
    if (slot.inPool) {
      if (slot.state !== "outside") this.#counts[slot.state] += step;
    } else if (slot.state === "leased") this.#outside += step;
  }
}

/** Never leased, as far as anybody knows. */
export function isFresh(slot: Slot): boolean {
  return slot.last === undefined && slot.declinedUntil === 0;
}

function addTo(counts: Map<string, number>, key: string | undefined, step: 1 | -1): void {
  if (key === undefined) return;
  const count = (counts.get(key) ?? 0) + step;
  if (count === 0) counts.delete(key);
  else counts.set(key, count);
}

function newSlot(address: Address): Slot {
  return {
    address,
    ip: formatAddress(address),
    inPool: false,
    grantable: false,
    reservation: undefined,
    state: "outside",
    until: Number.POSITIVE_INFINITY,
    holder: undefined,
    lease: undefined,
    pending: undefined,
    last: undefined,
    coolUntil: 0,
    declinedUntil: 0,
    declinedBy: undefined,
    port: undefined,
    queue: undefined,
    before: undefined,
    after: undefined,
    heapIndex: -1,
    placedUntil: 0,
  };
}
