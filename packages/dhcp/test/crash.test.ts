import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseAddress } from "@cocoon-net/core";
import {
  DhcpServer,
  type DhcpSocket,
  decodePacket,
  formatMac,
  LeaseEngine,
  LeasesFile,
  loadLeases,
  type ServerEvent,
  steadyClock,
} from "@cocoon-net/dhcp";
import { describe, expect, it, vi } from "vitest";
import { gateway, macOf, optionsWithPool, request, wire } from "./client-messages.ts";
import { type Crash, crashes, type DiskLog } from "./crash/disk-log.ts";
import { filesIn, record, setReadOnly } from "./crash/recorded-disk.ts";
import { Random } from "./fuzz/mutator.ts";
import { Guests } from "./guests.ts";
import { RecordedNetwork } from "./loopback-server.ts";
import { scratchDirectory, until } from "./scratch-directory.ts";

vi.mock("node:fs/promises", async (original) => {
  const { recordedPromises } = await import("./crash/recorded-disk.ts");
  return recordedPromises(await original<typeof import("node:fs/promises")>());
});
vi.mock("node:fs", async (original) => {
  const { recordedCallbacks } = await import("./crash/recorded-disk.ts");
  return recordedCallbacks(await original<typeof import("node:fs")>());
});

const T = Date.UTC(2026, 10, 1);
const hour = 3_600_000;
const poolSize = 12;
const guests = Array.from({ length: 8 }, (_, index) => macOf(index + 1));
const engineOptions = optionsWithPool(poolSize, { leaseMs: hour, coolDownMs: 60_000, declineMs: hour });

/** What a guest knows and when: `moment` is the disk's. */
interface Told {
  readonly moment: number;
  readonly mac: string;
  readonly ip: string;
  /** When it takes its lease to end, by the server's clock; undefined: it has given the address back, or asked to. */
  readonly expiry: number | undefined;
}

/** A server on the recorded disk, and guests that talk to it. */
class Node {
  readonly told: Told[] = [];
  readonly events: ServerEvent[] = [];
  readonly server: DhcpServer;
  readonly clock: { now: () => number };
  readonly #log: DiskLog;
  /** By transaction id. */
  readonly #askedAt: number[] = [];
  readonly #waiting = new Map<string, (ip: string | undefined) => void>();
  #deliver: (packet: Uint8Array) => void = () => undefined;

  private constructor(
    log: DiskLog,
    clock: Node["clock"],
    parts: Awaited<ReturnType<typeof loadLeases>>,
    leases: string,
  ) {
    this.#log = log;
    this.clock = clock;
    const socket: DhcpSocket = {
      send: (packet) => this.#hear(packet),
      onPacket: (listener) => {
        this.#deliver = (packet) => listener(packet, { address: "0.0.0.0", port: 68 });
      },
      close: () => undefined,
    };
    this.server = new DhcpServer({
      engine: new LeaseEngine(engineOptions, parts.state),
      journal: parts.journal,
      leasesFile: new LeasesFile(leases),
      socket,
      network: new RecordedNetwork(),
      clock,
      onEvent: (event) => this.events.push(event),
    });
  }

  static async start(directory: string, log: DiskLog, clock: Node["clock"]): Promise<Node> {
    const paths = { journalPath: join(directory, "journal"), leasesFilePath: join(directory, "leases.json") };
    const parts = await loadLeases({ ...paths, now: clock.now(), compactBytes: 1500 });
    const node = new Node(log, clock, parts, paths.leasesFilePath);
    await node.server.start();
    return node;
  }

  #hear(bytes: Uint8Array): void {
    const decoded = decodePacket(bytes);
    if (!decoded.ok) throw new Error(decoded.reason);
    const { xid, yiaddr, chaddr, options } = decoded.packet;
    const mac = formatMac(chaddr);
    const ip = yiaddr === 0 ? undefined : [24, 16, 8, 0].map((shift) => (yiaddr >>> shift) & 255).join(".");
    if (options.get(53)?.[0] === 5 && ip !== undefined) {
      const seconds = Buffer.from(options.get(51) ?? []).readUInt32BE();
      // RFC 2131 §4.4.1: a client counts from when it asked.
      this.#tell(mac, ip, (this.#askedAt[xid] ?? 0) + seconds * 1000 - 1000);
    }
    this.#waiting.get(mac)?.(ip);
  }

  #tell(mac: string, ip: string, expiry: number | undefined): void {
    this.told.push({ moment: this.#log.moments, mac, ip, expiry });
  }

  #silences(): number {
    return Object.values(this.server.stats().dropped).reduce((sum, count) => sum + count, 0);
  }

  /** @returns the address that the answer names; undefined for a NAK or silence */
  async ask(packet: Uint8Array, mac: string): Promise<string | undefined> {
    let answer: { readonly ip: string | undefined } | undefined;
    this.#waiting.set(mac, (ip) => {
      answer = { ip };
    });
    const silences = this.#silences();
    new DataView(packet.buffer, packet.byteOffset).setUint32(4, this.#askedAt.push(this.clock.now()) - 1);
    this.#deliver(packet);
    await until(() => answer !== undefined || this.#silences() > silences, "an answer or silence");
    return answer?.ip;
  }

  async lease(mac: string, wanted?: string): Promise<string | undefined> {
    const requested = wanted ?? (await this.ask(wire({ type: "discover", mac, broadcast: true }), mac));
    if (requested === undefined) return undefined;
    return this.ask(wire({ type: "request", mac, requested, server: gateway, broadcast: true }), mac);
  }

  /** Asks for another address: by that it gives the old one up, whatever the answer. */
  async move(mac: string, from: string, to: string): Promise<string | undefined> {
    if (to !== from) this.#tell(mac, from, undefined);
    return this.lease(mac, to);
  }

  /** RELEASE or DECLINE: no answer comes, only its effect on the server. */
  async giveUp(type: "release" | "decline", mac: string, ip: string): Promise<void> {
    this.#tell(mac, ip, undefined);
    const heard = (): number => this.events.length + this.#silences();
    const before = heard();
    this.#deliver(wire({ type, mac, ciaddr: ip, requested: ip, server: gateway }));
    await until(() => heard() > before, type);
  }
}

/** Guests come, renew, move, release and decline, several at a time; leases expire; the server is restarted once. */
async function traffic(directory: string, log: DiskLog, random: Random): Promise<Told[]> {
  let now = T;
  const clock = { now: () => now };
  let node = await Node.start(directory, log, clock);
  const told: Told[] = [];
  const has = new Map<string, string>();
  for (let round = 0; round < 40; round++) {
    if (round === 20) {
      await node.server[Symbol.asyncDispose]();
      told.push(...node.told);
      node = await Node.start(directory, log, clock);
    }
    now += random.pick([1000, 1000, 60_000, 600_000]);
    const busy = guests.filter(() => random.chance(35));
    await Promise.all(
      busy.map(async (mac) => {
        const ip = has.get(mac);
        const what = random.below(10);
        let got: string | undefined;
        if (ip === undefined) got = await node.lease(mac);
        else if (what < 3) await node.giveUp(what === 0 ? "decline" : "release", mac, ip);
        else if (what < 8) got = await node.lease(mac, ip);
        else got = await node.move(mac, ip, `10.0.0.${2 + random.below(poolSize)}`);
        if (got === undefined) has.delete(mac);
        else has.set(mac, got);
      }),
    );
  }
  await node.server[Symbol.asyncDispose]();
  return [...told, ...node.told].toSorted((one, other) => one.moment - other.moment);
}

/** What the guests hold at that moment, less what they have given back or asked to. */
function expected(told: readonly Told[], moment: number): Map<string, Told> {
  const sure = new Map<string, Told>();
  for (const one of told) {
    if (one.moment > moment) break;
    // A new lease of a client ends its old one.
    for (const [ip, { mac }] of sure) if (mac === one.mac) sure.delete(ip);
    if (one.expiry !== undefined) sure.set(one.ip, one);
  }
  return sure;
}

/** Starts from what the crash left and looks at it as guests do. */
async function check(directory: string, told: readonly Told[], moment: number): Promise<void> {
  const sure = expected(told, moment);
  const last = told.findLast((one) => one.moment <= moment && one.expiry !== undefined);
  const now = (last?.expiry ?? T + hour) - hour + 2000;
  const paths = { journalPath: join(directory, "journal"), leasesFilePath: join(directory, "leases.json") };
  const { journal, state } = await loadLeases({ ...paths, now });
  await journal[Symbol.asyncDispose]();
  const engine = new LeaseEngine(engineOptions, state);
  engine.expire(now);
  for (const { ip, mac, expiry } of sure.values()) {
    if (expiry === undefined || expiry <= now) continue;
    const lease = engine.leaseOf(parseAddress(ip));
    if (lease?.mac !== mac || lease.expiry < expiry) {
      throw new Error(`${mac} holds ${ip} until ${expiry}, the server has ${JSON.stringify(lease)}`);
    }
    const thief = engine.handle(request({ type: "request", mac: macOf(99), ciaddr: ip }), now);
    if (thief.kind !== "nak") throw new Error(`${ip} of ${mac} would go to another: ${thief.kind}`);
  }
  const holders = [...engine.leases()];
  expect(new Set(holders.map(({ mac }) => mac)).size).toBe(holders.length);
  for (let index = 100; index < 100 + poolSize; index++) {
    const decision = engine.handle(request({ type: "discover", mac: macOf(index) }), now);
    if (decision.kind !== "offer") break;
    const ip = `10.0.0.${decision.address & 255}`;
    const holder = sure.get(ip);
    if (holder?.expiry !== undefined && holder.expiry > now)
      throw new Error(`${ip} of ${holder.mac} is offered`);
  }
}

async function put(directory: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory);
  for (const [name, content] of files) await writeFile(join(directory, name), content);
}

// Catalogue 22. Guard: packages/dhcp/src/grant-batches.ts, GrantBatches.#secure: an ACK waits for the journal.
it.each([7, 8, 9])(
  "a crash at any moment of any write loses no acknowledged lease and grants none twice (G2, G9), seed %i",
  {
    timeout: 240_000,
  },
  async (seed) => {
    const random = new Random(seed);
    const directory = join(await scratchDirectory(), "node");
    const after = join(await scratchDirectory(), "after");
    await mkdir(directory);
    let told: Told[] = [];
    const log = await record(directory, async (disk) => {
      told = await traffic(directory, disk, random);
    });
    // The record is the whole truth: replayed to its end, it gives the files that are there.
    expect(log.after("kill", log.moments, random)).toEqual(await filesIn(directory));
    expect(told.filter(({ expiry }) => expiry !== undefined).length).toBeGreaterThan(50);

    const crashAt = async (moment: number, crash: Crash): Promise<void> => {
      try {
        await put(after, log.after(crash, moment, random));
        // The recovery may be cut off as well, and again.
        const recovery = await record(after, () => check(after, told, moment));
        if (random.chance(90)) return;
        const cut = random.below(recovery.moments + 1);
        await put(after, recovery.after(random.pick(crashes), cut, random));
        await check(after, told, moment);
      } catch (cause) {
        throw new Error(`seed ${seed}, moment ${moment} of ${log.moments}, ${crash}: ${String(cause)}`, {
          cause,
        });
      }
    };
    for (let moment = 0; moment <= log.moments; moment++) {
      for (const crash of crashes) await crashAt(moment, crash);
    }
  },
);

it("a file system that turns read-only keeps guests, admits nobody, says why, and all is well afterwards", async () => {
  const directory = join(await scratchDirectory(), "node");
  await mkdir(directory);
  let now = T;
  await record(directory, async (disk) => {
    const node = await Node.start(directory, disk, { now: () => now });
    const [holder = "", newcomer = ""] = guests;
    const ip = await node.lease(holder);
    setReadOnly(true);
    now += 60_000;
    const renewal = wire({ type: "request", mac: holder, ciaddr: ip ?? "", broadcast: true });
    expect(await node.ask(renewal, holder)).toBe(ip);
    // What it was told is what is left of the lease on disk.
    expect(node.told.at(-1)?.expiry).toBeLessThanOrEqual(T + hour);
    expect(await node.lease(newcomer)).toBeUndefined();
    expect(node.server.stats().dropped).toMatchObject({ journal: 1 });
    expect(node.server.stats().journal.failing).toContain("EROFS");
    const told = node.events.filter(({ type }) => type === "problem");
    expect(told).toMatchObject([{ message: "no new leases can be granted" }]);
    setReadOnly(false);
    // The journal is written anew, which is tried once a second.
    await until(async () => (await node.lease(newcomer)) !== undefined, "a lease for the newcomer");
    expect(node.server.stats().journal.failing).toBeUndefined();
    await node.server[Symbol.asyncDispose]();
  });
  await check(directory, [], 0);
});

describe("a clock step of an hour", () => {
  it.each([hour, -hour])("of %i ms between two runs takes no lease from its guest", async (step) => {
    const directory = await scratchDirectory();
    const paths = { journalPath: join(directory, "journal"), leasesFilePath: join(directory, "leases.json") };
    const options = optionsWithPool(3);
    const first = await loadLeases({ ...paths, now: T });
    const guest = new Guests(new LeaseEngine(options, first.state));
    await first.journal.append(guest.lease(macOf(1)).records);
    await first.journal[Symbol.asyncDispose]();
    const now = T + 60_000 + step;
    const { journal, state } = await loadLeases({ ...paths, now });
    await journal[Symbol.asyncDispose]();
    const again = new Guests(new LeaseEngine(options, state));
    expect(again.engine.expire(now)).toEqual([]);
    expect(again.discover(macOf(2), now, "10.0.0.2")).toBe("10.0.0.3");
    const renewal = again.take(again.renew(macOf(1), "10.0.0.2", now));
    expect(renewal.lease).toMatchObject({ expiry: now + 24 * hour, seq: 2 });
  });

  // Catalogue 26. Guard: packages/dhcp/src/ports.ts, steadyClock: the wall clock is read once.
  it("under a running server ends no lease early and prolongs none", () => {
    let [wall, monotonic] = [T, 5000];
    const clock = steadyClock(
      () => wall,
      () => monotonic,
    );
    const guest = new Guests(new LeaseEngine(optionsWithPool(3, { leaseMs: hour })));
    guest.lease(macOf(1), clock.now());
    for (const step of [hour, -2 * hour]) {
      wall += step;
      monotonic += 1_000_000;
      expect(guest.engine.expire(clock.now())).toEqual([]);
    }
    monotonic += 1_600_000;
    expect(guest.engine.expire(clock.now())).toHaveLength(1);
  });
});
