import { contains, type MovedRecord, parseAddress, parseCidr } from "@cocoon-net/core";
import type { MovedAddress } from "@cocoon-net/dhcp";
import type { MovedPlaces } from "./move-announcements.ts";
import { type KnownMoved, readMovedFile, writeMovedFile } from "./moved-file.ts";
import type { PoolFile, StateDirectory } from "./state-directory.ts";

export interface NodeIdentity {
  readonly pool: Pick<PoolFile, "nodeName" | "subnet">;
  /** Undefined for a node that has never registered: nothing was moved to it or from it. */
  readonly uid: string | undefined;
}

/** The moved addresses that concern this node, in memory and in `moved.json`, and what follows from them. */
export class KnownMoves {
  readonly #state: StateDirectory;
  readonly #node: string;
  readonly #subnet: string;
  readonly #block;
  readonly #known: Map<string, KnownMoved>;
  #uid: string | undefined;
  /** The store's incarnation in which all of this was read. */
  incarnation: string | undefined;
  /** Addresses of its own whose record cannot be read: nobody is served them. */
  readonly unreadable: Set<string> = new Set();
  /** Addresses that nobody may be served any more: they are on their way home. */
  readonly returning: Set<string> = new Set();
  /** Empty: there is no file; undefined: one of before. */
  #written: string | undefined;
  #saving: Promise<void> = Promise.resolve();

  private constructor(
    state: StateDirectory,
    { pool, uid }: NodeIdentity,
    file: Awaited<ReturnType<typeof readMovedFile>>,
  ) {
    // What another node of that name has left is not gone by (G12).
    const own = uid !== undefined && file?.uid === uid ? file : undefined;
    this.#state = state;
    this.#node = pool.nodeName;
    this.#subnet = pool.subnet;
    this.#block = parseCidr(pool.subnet);
    this.#uid = uid;
    this.#known = new Map(Object.entries(own?.addresses ?? {}));
    this.incarnation = own?.incarnation;
    this.#written = file === undefined ? "" : undefined;
  }

  /** As it was known last. @throws {CorruptError} */
  static async open(state: StateDirectory, identity: NodeIdentity): Promise<KnownMoves> {
    return new KnownMoves(state, identity, await readMovedFile(state, identity.pool.subnet));
  }

  /** Who the node has registered as. */
  registeredAs(uid: string): void {
    this.#uid = uid;
  }

  get addresses(): readonly string[] {
    return [...this.#known.keys()];
  }

  get(ip: string): KnownMoved | undefined {
    return this.#known.get(ip);
  }

  put(ip: string, known: KnownMoved): void {
    const before = this.#known.get(ip);
    const arrives = this.serves(known.record) && !(before && this.serves(before.record));
    // Of two addresses of one guest the last is listed: what arrives has to be, or it could never be taken in.
    if (arrives) this.#known.delete(ip);
    this.#known.set(ip, known);
  }

  forget(ip: string): void {
    this.#known.delete(ip);
    this.returning.delete(ip);
  }

  forgetAll(): void {
    this.#known.clear();
    this.returning.clear();
  }

  isOwn(ip: string): boolean {
    return contains(this.#block, parseAddress(ip));
  }

  serves({ node, uid }: MovedRecord): boolean {
    return node === this.#node && uid === this.#uid; // G12
  }

  concerns(ip: string, { node, move }: MovedRecord): boolean {
    return this.isOwn(ip) || [node, move?.from, move?.to].includes(this.#node);
  }

  /** What the DHCP server has to know. */
  toServe(): MovedAddress[] {
    const places = new Map<string, MovedAddress>();
    for (const ip of this.unreadable) {
      if (!this.#known.has(ip)) places.set(ip, { address: parseAddress(ip) });
    }
    for (const [ip, { record, gateway }] of this.#known) {
      const address = parseAddress(ip);
      const mac = record.mac.toLowerCase();
      const isServed = this.serves(record) && !this.returning.has(ip);
      if (isServed && this.isOwn(ip)) places.set(mac, { address, mac });
      else if (this.isOwn(ip)) places.set(ip, { address });
      else if (isServed && gateway !== undefined) {
        const home = { subnet: parseCidr(record.subnet), gateway: parseAddress(gateway) };
        places.set(mac, { address, mac, home });
      }
    }
    return [...places.values()];
  }

  /** What the host has to route. */
  toRoute(): MovedPlaces {
    const away: string[] = [];
    const guests: { address: string; gateway: string }[] = [];
    for (const [ip, { record, gateway }] of this.#known) {
      if (this.isOwn(ip) && !this.serves(record)) away.push(ip);
      if (!this.isOwn(ip) && this.serves(record) && gateway !== undefined) {
        guests.push({ address: ip, gateway });
      }
    }
    return { away, guests };
  }

  /** Resolves when all that is known is on disk. */
  save(): Promise<void> {
    this.#saving = this.#saving.catch(() => undefined).then(() => this.#save());
    return this.#saving;
  }

  async #save(): Promise<void> {
    const uid = this.#uid;
    if (uid === undefined) return;
    const file = {
      subnet: this.#subnet,
      uid,
      ...(this.incarnation === undefined ? {} : { incarnation: this.incarnation }),
      addresses: Object.fromEntries(this.#known),
    };
    const text = JSON.stringify(file);
    if (text === this.#written || (this.#written === "" && this.#known.size === 0)) return;
    await writeMovedFile(this.#state, file);
    this.#written = text;
  }
}
