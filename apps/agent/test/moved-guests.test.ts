import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  decode,
  encode,
  formatAddress,
  incarnationSchema,
  initCluster,
  keys,
  type LeaseRecord,
  type MovedRecord,
  movedSchema,
  type Registration,
  Registry,
  type Store,
} from "@cocoon-net/core";
import type { MovedAddress } from "@cocoon-net/dhcp";
import { openMemoryStore } from "@cocoon-net/store-memory";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { MovingBook } from "../src/lease-book.ts";
import { LeaseMirror } from "../src/lease-mirror.ts";
import { createLogger } from "../src/log.ts";
import type { MoveHost } from "../src/move-host.ts";
import { readMovedFile } from "../src/moved-file.ts";
import { MovedGuests } from "../src/moved-guests.ts";
import { StateDirectory } from "../src/state-directory.ts";
import { until } from "./support/command.ts";

const ip = "10.0.0.9";
const mac = "52:54:00:00:00:09";
const log = createLogger({ COCOON_NET_LOG_LEVEL: "silent" });
const lease = (node: string): LeaseRecord => ({
  node,
  mac,
  vmID: "vm-9",
  seq: 3,
  expiry: new Date(Date.now() + 3_600_000).toISOString(),
});

class Book implements MovingBook {
  readonly held = new Map<string, LeaseRecord>();
  moved: readonly MovedAddress[] = [];
  leases(): ReadonlyMap<string, LeaseRecord> {
    return this.held;
  }
  setMoved(moved: readonly MovedAddress[]): void {
    this.moved = moved;
  }
  async takeIn(address: string, taken: LeaseRecord): Promise<void> {
    const place = this.moved.find((one) => formatAddress(one.address) === address);
    if (place?.mac !== taken.mac) throw new Error(`${address} is not expected`);
    this.held.set(address, taken);
  }
  async letGo(address: string): Promise<void> {
    this.held.delete(address);
  }
}

/** One node's part in moves, on a directory of its own. */
class Agent {
  readonly book = new Book();
  readonly host: Parameters<MoveHost["apply"]>[0][] = [];
  readonly registration: Registration;
  readonly #state: StateDirectory;
  readonly #store: Store;
  #stop = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  guests: MovedGuests | undefined;

  constructor(store: Store, registration: Registration, state: StateDirectory) {
    this.#store = store;
    this.registration = registration;
    this.#state = state;
  }

  async open(): Promise<MovedGuests> {
    const { node, uid, subnet } = this.registration;
    const gateway = subnet.replace("0/24", "1");
    const pool = { platform: "test", nodeName: node, subnet, gateway, ips: [], updatedAt: "" };
    this.guests = await MovedGuests.open({ pool, uid, state: this.#state, log });
    return this.guests;
  }

  /** The incarnation in which nothing is left that the store may have lost. */
  async incarnation(): Promise<string | undefined> {
    return (await readMovedFile(this.#state, this.registration.subnet))?.incarnation;
  }

  /** Resolves when all of `moved/` was read. */
  async start(): Promise<void> {
    const guests = this.guests ?? (await this.open());
    const host: MoveHost = {
      apply: async (plan) => void this.host.push(plan),
      bringUp: async () => {},
      announce: () => {},
    };
    await guests.attach({ book: this.book, host });
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    const mirror = new LeaseMirror(this.registration, { onFenced: () => {} });
    const session = { store: this.#store, registration: this.registration, mirror, signal };
    await new Promise<void>((resolve) => {
      this.#running = guests
        .follow(session, resolve)
        .catch(() => undefined)
        .finally(() => mirror[Symbol.asyncDispose](0));
    });
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.guests?.[Symbol.asyncDispose]();
    this.guests = undefined;
  }
}

let store: Store;
let directory: string;
let home: Agent;
let other: Agent;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "moved-guests-"));
  store = openMemoryStore();
  await initCluster(store, { parentCIDR: "10.0.0.0/16", platform: "test" });
  const agents: Agent[] = [];
  for (const node of ["n1", "n2"]) {
    const state = new StateDirectory(join(directory, node));
    await state.create();
    const registration = await new Registry(store).register({ node, uid: `i-${node}`, agentVersion: "1" });
    agents.push(new Agent(store, registration, state));
  }
  [home, other] = agents as [Agent, Agent];
  home.book.held.set(ip, lease("n1"));
  await home.registration.mirror([[ip, lease("n1")]]);
});
afterEach(async () => {
  await home.stop();
  await other.stop();
  await store[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

async function record(): Promise<MovedRecord | undefined> {
  const { entry } = await store.get(keys.moved(ip));
  return entry && decode(movedSchema, entry);
}

async function put(moved: MovedRecord, ...more: { put: string; value: string }[]): Promise<void> {
  await store.txn({ then: [{ put: keys.moved(ip), value: encode(moved) }, ...more] });
}

const isReady = (...names: string[]): Promise<true> =>
  until(`${names.join()} to be ready`, async () => {
    return (await record())?.move?.ready.toSorted().join() === names.join();
  });

const base = { home: "n1", subnet: "10.0.0.0/24", mac, vmID: "vm-9" };
const before: MovedRecord = {
  ...base,
  ...{ node: "n1", uid: "i-n1", seq: 0 },
  move: { intent: "move-1", from: "n1", to: "n2", toUID: "i-n2", ready: [] },
};
const swapped: MovedRecord = {
  ...base,
  ...{ node: "n2", uid: "i-n2", seq: 1 },
  move: { intent: "move-1", from: "n1", to: "n2", toUID: "i-n2", ready: [] },
};
const settled: MovedRecord = { ...base, node: "n2", uid: "i-n2", seq: 1 };
const swap = { put: keys.pool(ip), value: encode(lease("n2")) };

async function moveToOther(): Promise<void> {
  await put(before);
  await isReady("n1", "n2");
  await put(swapped, swap);
  await isReady("n2");
  await put(settled);
}

it("takes the four steps: says that it is ready, hands over, serves as at home, and has it back", async () => {
  await home.start();
  await other.start();
  await put(before);
  await isReady("n1", "n2");
  expect([home.book.held.has(ip), other.book.held.has(ip)]).toEqual([true, false]);
  expect(home.guests?.governs(ip)).toBe(true);
  home.guests?.changed(ip, { ...lease("n1"), seq: 4 });
  await until("the renewal to be written", async () =>
    ((await store.get(keys.pool(ip))).entry?.value ?? "").includes('"seq":4'),
  );

  await put(swapped, swap);
  await isReady("n2");
  expect(other.book.held.get(ip)).toMatchObject({ mac, vmID: "vm-9" });
  expect(other.book.moved).toMatchObject([{ mac, home: { gateway: 0x0a000001 } }]);
  expect(other.host.at(-1)).toEqual({ away: [], guests: [{ address: ip, gateway: "10.0.0.1" }] });
  await until("home to have let it go", async () => !home.book.held.has(ip));
  expect(home.book.moved).toEqual([{ address: 0x0a000009 }]);
  await until("home to route it away", async () => home.host.at(-1)?.away.join() === ip);

  // Back again.
  await put(settled);
  const back = { intent: "move-2", from: "n2", to: "n1", toUID: "i-n1", ready: [] };
  await put({ ...settled, move: back });
  await isReady("n1", "n2");
  await put(
    { ...base, node: "n1", uid: "i-n1", seq: 2, move: back },
    { put: keys.pool(ip), value: encode(lease("n1")) },
  );
  await isReady("n1");
  expect(home.book.held.get(ip)?.mac).toBe(mac);
  await store.txn({ then: [{ delete: keys.moved(ip) }] });
  const nothing = JSON.stringify([[], [], { away: [], guests: [] }, { away: [], guests: [] }]);
  await until("both to forget it, their servers and hosts too", async () => {
    const left = [home.book.moved, other.book.moved, home.host.at(-1), other.host.at(-1)];
    return !home.guests?.governs(ip) && !other.guests?.governs(ip) && JSON.stringify(left) === nothing;
  });
  expect([home.book.held.has(ip), other.book.held.has(ip)]).toEqual([true, false]);
});

it("after a restart without the store serves, and holds back, the same (G7, G9)", async () => {
  await home.start();
  await other.start();
  await moveToOther();
  await until("both to know", async () => home.host.at(-1)?.away.join() === ip);
  await home.stop();
  await other.stop();
  expect((await home.open()).places()).toEqual([{ address: 0x0a000009 }]);
  expect((await other.open()).places()).toMatchObject([
    { address: 0x0a000009, mac, home: { gateway: 0x0a000001 } },
  ]);
});

it("takes in what was moved to it while it was dead, and says so then", async () => {
  await home.start();
  await put(before);
  await isReady("n1");
  await put(swapped, swap);
  await until("home to have let it go", async () => !home.book.held.has(ip));
  await other.start();
  await isReady("n2");
  expect(other.book.held.get(ip)?.mac).toBe(mac);
});

// Guard: MovedGuests.#refused. `moved/` does not change when a claim is confirmed under another epoch.
it("says that it serves a guest once its claim is proved again, when that was refused before (G3)", async () => {
  await home.start();
  await other.start();
  await put(before);
  await isReady("n1", "n2");
  const { epoch } = other.registration;
  await store.txn({
    then: [
      { put: keys.subnet("n2"), value: encode("10.0.1.0/24") },
      { put: keys.epochs("n2"), value: encode({ former: [epoch] }) },
    ],
  });
  let refused = 0;
  const txn = store.txn.bind(store);
  store.txn = async (request, options) => {
    const result = await txn(request, options);
    if (!result.succeeded) refused += 1;
    return result;
  };
  await put(swapped, swap);
  await until("it to be refused", async () => refused > 0);
  await other.registration.confirm();
  expect(other.registration.epoch).toBeGreaterThan(epoch);
  await isReady("n2");
});

// Guard: KnownMoves.put. A guest has one address here; what has arrived last is the one.
it("takes in the address that comes last of two that one guest has had, also one of its own", async () => {
  await home.start();
  await other.start();
  const own = "10.0.1.7";
  const away = { ...base, home: "n2", subnet: "10.0.1.0/24", node: "n1", uid: "i-n1", seq: 1 };
  await store.txn({ then: [{ put: keys.moved(own), value: encode(away) }] });
  await until("n2 to hold its own back", async () => other.guests?.governs(own) === true);
  await moveToOther();
  const back = { intent: "move-2", from: "n1", to: "n2", toUID: "i-n2", ready: [] };
  await store.txn({
    then: [
      { put: keys.moved(own), value: encode({ ...away, node: "n2", uid: "i-n2", seq: 2, move: back }) },
      { put: keys.pool(own), value: encode(lease("n2")) },
    ],
  });
  await until("n2 to serve it", async () => other.book.held.has(own));
});

it("lets an address go home only when it has no guest of it, and makes none then", async () => {
  await home.start();
  await other.start();
  await moveToOther();
  const back = { intent: "return-1", from: "n2", to: "n1", toUID: "i-n1", ready: [] };
  await put({ ...settled, move: back });
  await isReady("n1");
  other.book.held.delete(ip);
  other.guests?.changed(ip, undefined);
  await isReady("n1", "n2");
  expect(other.book.moved).toEqual([]);
});

it("says again what a store has lost, and ends what it has not lost but ended", async () => {
  await home.start();
  await other.start();
  await moveToOther();
  await until("n2 to settle", async () => (await record())?.move === undefined);
  await home.stop();
  await other.stop();
  const { entry } = await store.get(keys.incarnation);
  if (!entry) throw new Error("there is no incarnation");
  const later = { ...decode(incarnationSchema, entry), id: "another", recovering: true };
  await store.txn({
    then: [
      { delete: keys.moved(ip) },
      { delete: keys.pool(ip) },
      { put: keys.incarnation, value: encode(later) },
    ],
  });
  await home.start();
  expect(home.book.moved).toEqual([{ address: 0x0a000009 }]);
  await other.start();
  await until("n2 to say it again", async () => (await record())?.node === "n2");
  expect(other.book.held.has(ip)).toBe(true);
  // Until it has heard of its own write, what is gone is lost, and said again.
  await until("n2 to hear of it", async () => (await other.incarnation()) === "another");
  await store.txn({ then: [{ delete: keys.moved(ip) }, { delete: keys.pool(ip) }] });
  await until("n2 to end it", async () => !other.book.held.has(ip));
});

it("holds back an address of its own whose record it cannot read, and goes on with the others", async () => {
  await store.txn({ then: [{ put: keys.moved("10.0.0.77"), value: "{" }] });
  await home.start();
  await other.start();
  expect([home.book.moved, other.book.moved]).toEqual([[{ address: 0x0a00004d }], []]);
  await moveToOther();
  await store.txn({ then: [{ delete: keys.moved("10.0.0.77") }] });
  await until("it to be free again", async () => home.book.moved.length === 1);
  expect(home.book.moved).toEqual([{ address: 0x0a000009 }]);
});
