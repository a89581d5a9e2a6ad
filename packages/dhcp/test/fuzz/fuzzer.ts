import { isDeepStrictEqual } from "node:util";
import { type Address, parseAddress, parseCidr } from "@cocoon-net/core";
import {
  type Answer,
  buildReply,
  type DhcpPacket,
  type DhcpRequest,
  decodePacket,
  type EngineOptions,
  formatMac,
  type Grant,
  LeaseEngine,
  type Reply,
  readRequest,
} from "@cocoon-net/dhcp";
import { Mutator, Random } from "./mutator.ts";
import { seeds } from "./seeds.ts";

export interface FuzzReport {
  readonly packets: number;
  /** What became of them: answers by type, silences and refusals by reason. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Bytes on the heap after a collection, early and at the end. */
  readonly heap: { readonly early: number; readonly end: number };
}

const server = parseAddress("10.0.0.1");
const base = parseAddress("10.0.0.0");
const [discover, request, inform] = [1, 3, 8];
const [offer, ack, nak] = [2, 5, 6];

const engineOptions: EngineOptions = {
  subnet: parseCidr("10.0.0.0/24"),
  gateway: server,
  pool: Array.from({ length: 60 }, (_, index) => base + 2 + index),
  dns: [parseAddress("8.8.8.8")],
  rapidCommit: true,
  leasesPerPort: 8,
  leaseMs: 3_600_000,
  options: {
    domain: "guests.example",
    searchDomains: ["guests.example", "example"],
    mtu: 1450,
    ntp: ["10.0.0.1"],
    routes: [{ to: "10.0.0.0/8", via: "10.0.0.1" }],
    bootFile: "pxelinux.0",
    tftpServer: "10.0.0.1",
    raw: { "43": `hex ${"ab".repeat(180)}` },
  },
  reservations: [
    { mac: "52:54:00:00:00:07", address: base + 7, options: { hostname: "seven", mtu: 9000 } },
    { clientID: "01:52:54:00:00:00:01", leaseMs: 60_000 },
  ],
};

/** Packets through codec, engine and reply, with everything that a reply must be checked. @throws what is wrong, and the packet */
export function fuzz(packets: number, seed: number, onProgress?: (done: number) => void): FuzzReport {
  const random = new Random(seed);
  const mutator = new Mutator(random, seeds());
  const run = new Run(random);
  const early = Math.floor(packets / 4);
  let earlyHeap = 0;
  for (let done = 0; done < packets; done++) {
    const packet = mutator.next();
    try {
      const told = run.one(packet);
      if (told !== undefined) mutator.learn(told);
      if (done % 1000 === 0) run.checkEngine();
    } catch (error) {
      const hex = Buffer.from(packet).toString("hex");
      throw new Error(`packet ${done} of seed ${seed}: ${String(error)}\n${hex}`, { cause: error });
    }
    if (done === early) earlyHeap = heapNow();
    if (done % 100_000 === 0) onProgress?.(done);
  }
  run.checkEngine();
  const outcomes = Object.fromEntries([...run.outcomes].toSorted(([, one], [, other]) => other - one));
  return { packets, outcomes, heap: { early: earlyHeap, end: heapNow() } };
}

function heapNow(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}

class Run {
  readonly outcomes = new Map<string, number>();
  readonly #random: Random;
  readonly #engine = new LeaseEngine(engineOptions);
  readonly #pending: Grant[] = [];
  #now = Date.UTC(2026, 10, 1);

  constructor(random: Random) {
    this.#random = random;
  }

  /** @returns the address that the client was told */
  one(bytes: Uint8Array): Uint8Array | undefined {
    const random = this.#random;
    this.#now += random.below(2000);
    if (random.below(5000) === 0) this.#now += 86_400_000;
    if (random.below(500) === 0) this.#operate();
    if (this.#pending.length > random.below(8)) this.#settle();
    const decoded = decodePacket(bytes);
    const message = decoded.ok ? readRequest(decoded.packet) : decoded.reason;
    if (!decoded.ok || typeof message === "string") {
      this.#count(String(message));
      return undefined;
    }
    const answer = this.#answer(message);
    if (answer === undefined) return undefined;
    const reply = buildReply(decoded.packet, answer, this.#engine.parametersFor(message));
    this.#count(answer.type);
    checkReply(decoded.packet, message, reply);
    const { yiaddr } = read(reply.bytes);
    if (yiaddr === 0) return undefined;
    this.#checkHolder(yiaddr, message.mac);
    return reply.bytes.slice(16, 20);
  }

  #answer(message: DhcpRequest): Answer | undefined {
    const random = this.#random;
    const port = random.chance(30) ? undefined : `p${random.below(5)}`;
    const decision = this.#engine.handle(message, this.#now, port);
    switch (decision.kind) {
      case "offer":
        if (decision.probe && random.chance(2)) {
          this.#engine.putAside(decision.address, this.#now);
          return undefined;
        }
        return { type: "offer", address: decision.address, leaseMs: decision.leaseMs };
      case "nak":
        return { type: "nak", reason: decision.reason };
      case "inform-ack":
        return { type: "inform-ack", address: decision.address };
      case "grant":
        if (random.chance(10)) {
          this.#pending.push(decision);
          return undefined;
        }
        if (random.chance(5) || !this.#engine.commit(decision)) {
          this.#engine.abort(decision);
          return undefined;
        }
        return { type: "ack", address: decision.address, leaseMs: decision.leaseMs };
      default:
        this.#count(decision.kind === "silence" ? decision.reason : decision.kind);
        return undefined;
    }
  }

  #settle(): void {
    const grant = this.#pending.shift();
    if (grant !== undefined && (this.#random.chance(20) || !this.#engine.commit(grant)))
      this.#engine.abort(grant);
  }

  #operate(): void {
    const random = this.#random;
    this.#engine.expire(this.#now);
    const mac = `52:54:00:00:00:${random.below(120).toString(16).padStart(2, "0")}`;
    if (random.chance(50)) this.#engine.assignVm(`vm${random.below(50)}`, mac, this.#now);
    else this.#engine.removeVm(`vm${random.below(50)}`, this.#now);
    const granting = random.pick(["open", "open", "open", "renew-only", "refuse"] as const);
    this.#engine.configure({ granting });
  }

  #checkHolder(address: Address, mac: string): void {
    const lease = this.#engine.leaseOf(address);
    if (lease !== undefined && lease.mac !== mac)
      throw new Error(`${lease.ip} of ${lease.mac} went to ${mac} (G2)`);
    if (!this.#engine.isHolder(mac)) throw new Error(`${mac} was told of an address that it does not hold`);
  }

  /** G2 and G10. */
  checkEngine(): void {
    const { pool, free, offered, leased, cooling, declined, reserved } = this.#engine.counts();
    const leases = [...this.#engine.leases()];
    const isWhole = free + offered + leased + cooling + declined + reserved === pool && pool === 60;
    if (!isWhole || leases.length !== leased)
      throw new Error(`G10: ${JSON.stringify(this.#engine.counts())}`);
    if (new Set(leases.map(({ ip }) => ip)).size !== leases.length)
      throw new Error("G2: an address has two leases");
  }

  #count(outcome: string): void {
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
  }
}

function read(bytes: Uint8Array): DhcpPacket {
  const decoded = decodePacket(bytes);
  if (!decoded.ok) throw new Error(`the reply cannot be read: ${decoded.reason}`);
  return decoded.packet;
}

/** RFC 2131 §4.1, §4.3, tables 3 and 4. */
function checkReply(packet: DhcpPacket, message: DhcpRequest, { bytes, to }: Reply): void {
  const reply = read(bytes);
  const fail = (what: string): never => {
    throw new Error(`${what}: ${JSON.stringify({ ...message, to })} → ${Buffer.from(bytes).toString("hex")}`);
  };
  const asked = packet.options.get(53)?.[0];
  const type = reply.options.get(53)?.[0];
  const allowed =
    asked === discover ? [offer, ack] : asked === request ? [ack, nak] : asked === inform ? [ack] : [];
  if (type === undefined || !allowed.includes(type)) fail(`a ${type} answers a ${asked}`);
  if (asked === discover && type === ack && !packet.options.has(80)) fail("an ACK that nobody asked for");
  if (asked === request && message.serverID !== undefined && message.serverID !== server)
    fail("meant for another");
  if (reply.op !== 2 || reply.xid !== packet.xid || reply.giaddr !== packet.giaddr) fail("wrong header");
  if (reply.htype !== 1 || reply.hlen !== 6 || formatMac(reply.chaddr) !== message.mac) fail("wrong client");
  if (!isDeepStrictEqual([...(reply.options.get(54) ?? [])], [10, 0, 0, 1])) fail("wrong server");
  if (type === nak && (reply.yiaddr !== 0 || reply.siaddr !== 0)) fail("a NAK with an address");
  if (asked === inform && (reply.yiaddr !== 0 || reply.options.has(51))) fail("a lease for INFORM");
  const isInside = (address: Address): boolean =>
    address > base && address < base + 255 && address !== server;
  if (reply.yiaddr !== 0 && !isInside(reply.yiaddr)) fail("an address that is nobody's to have");
  const isBroadcast = to.address === "255.255.255.255" && to.port === 68;
  const isUnicast = to.port === 68 && isInside(parseAddress(to.address));
  const isRelayed = packet.giaddr !== 0 && to.port === 67 && parseAddress(to.address) === packet.giaddr;
  if (!isBroadcast && !isUnicast && !(isRelayed && isInside(packet.giaddr))) fail("a reply to nowhere");
  checkSize(packet, reply, bytes, fail);
  if (asked !== inform && type !== nak) checkTimes(reply, fail);
}

function checkSize(
  packet: DhcpPacket,
  reply: DhcpPacket,
  bytes: Uint8Array,
  fail: (what: string) => never,
): void {
  const size = bytes.length;
  const stated = packet.options.get(57);
  const limit = stated?.length === 2 ? ((stated[0] ?? 0) << 8) | (stated[1] ?? 0) : 0;
  // The identifiers that come back may need more than the least size.
  const most = Math.min(1472, Math.max(548, limit - 28, 790));
  if (size < 300 || size > most) fail(`${size} bytes, ${most} at most`);
  const relay = packet.options.get(82);
  if (relay !== undefined && relay.length > 0 && relay.length <= 255) {
    if (!isDeepStrictEqual(Buffer.from(reply.options.get(82) ?? []), Buffer.from(relay)))
      fail("option 82 is not back");
    if (lastCodeOf(bytes) !== 82) fail("option 82 is not the last");
  }
}

/** The last option of the options field, on the wire. */
function lastCodeOf(bytes: Uint8Array): number | undefined {
  let last: number | undefined;
  for (let at = 240; at < bytes.length && bytes[at] !== 255; at += 2 + (bytes[at + 1] ?? 0)) last = bytes[at];
  return last;
}

function checkTimes(reply: DhcpPacket, fail: (what: string) => never): void {
  const seconds = (code: number): number => {
    const value = reply.options.get(code);
    if (value?.length !== 4) return 0;
    return new DataView(value.buffer, value.byteOffset, 4).getUint32(0);
  };
  const [lease, t1, t2] = [seconds(51), seconds(58), seconds(59)];
  if (lease === 0) fail("no lease time");
  if (t2 !== 0 && !(t1 <= t2 && t2 <= lease)) fail(`T1 ${t1}, T2 ${t2}, lease ${lease}`);
}
