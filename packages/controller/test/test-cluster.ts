import {
  type Clock,
  type Controller,
  type ControllerEvent,
  type ControllerSettings,
  createController,
} from "@cocoon-net/controller";
import {
  decode,
  eventSchema,
  formatCidr,
  initCluster,
  type LeaseRecord,
  listAll,
  parseCidr,
  prefixes,
  type Registration,
  Registry,
  type Session,
  type Store,
  slotsOf,
} from "@cocoon-net/core";
import { ManualClock, MemoryDatabase, MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";
import { expect } from "vitest";
import { InterposedStore } from "./interposed-store.ts";
import { ScriptedCloud, ScriptedVpc } from "./scripted-cloud.ts";

export const startOfTime: number = Date.parse("2026-01-01T00:00:00.000Z");

const settings: ControllerSettings = {
  suspectAfterMs: 3_000,
  confirmAfterMs: 5_000,
  retryFirstMs: 1_000,
  retryMaxMs: 8_000,
  tickMs: 500,
  checkEveryMs: 0,
};

const pool = { size: 253, leased: 2, free: 251 };

export interface TestNode {
  readonly name: string;
  /** Its way to the database. */
  readonly store: Store;
  readonly registration: Registration;
  session: Session | undefined;
}

export interface TestController {
  readonly id: string;
  readonly controller: Controller;
  readonly store: InterposedStore;
  readonly link: MemoryLink;
  readonly cloud: ScriptedCloud;
  readonly events: ControllerEvent[];
  readonly stop: AbortController;
  readonly done: Promise<void>;
  /** Gone like a killed process: nothing it sends arrives, at the store or at the cloud. */
  kill(): void;
}

/** A cluster in one process on virtual time: one database, one VPC, nodes, and controllers with their own ways in. */
export class TestCluster implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly database = new MemoryDatabase({ clock: this.clock });
  readonly store: Store = openMemoryStore({ database: this.database });
  readonly vpc = new ScriptedVpc();
  readonly registry = new Registry(this.store, { now: () => this.date() });
  readonly controllers: TestController[] = [];
  readonly violations: string[] = [];

  private constructor() {}

  /** `reclaimAfterMs` 20 s, `quarantineMs` 30 s. `damaged`: the test breaks what otherwise always holds. */
  static async open({
    damaged = false,
    leaseMs = 86_400_000,
    parentCIDR = "10.0.0.0/16",
  } = {}): Promise<TestCluster> {
    const cluster = new TestCluster();
    await initCluster(cluster.store, {
      parentCIDR,
      platform: "scripted",
      leaseMs,
      reclaimAfterMs: 20_000,
      quarantineMs: 30_000,
    });
    if (!damaged) cluster.database.onCommit(() => cluster.#checkInvariants());
    return cluster;
  }

  date(): Date {
    return new Date(startOfTime + this.clock.now());
  }

  /** A node with two NICs, leases on .2 and .3, and a heartbeat. */
  async join(
    name: string,
    uid = `i-${name}`,
    more: { readonly instanceID?: undefined; readonly store?: Store } = {},
  ): Promise<TestNode> {
    const nics = [`eni-${uid}-0`, `eni-${uid}-1`];
    const { store = this.store } = more;
    const registry = more.store ? new Registry(store, { now: () => this.date() }) : this.registry;
    const registration = await registry.register({
      node: name,
      uid,
      instanceID: "instanceID" in more ? more.instanceID : uid,
      platform: "scripted",
      eniIDs: nics,
      agentVersion: "1.0.0",
    });
    this.vpc.instances.set(uid, "running");
    for (const id of nics) this.vpc.nics.set(id, { subnet: registration.subnet, instanceID: uid });
    await this.lease(registration, [2, 3]);
    await registration.update({ pool });
    const node: TestNode = { name, store, registration, session: undefined };
    await this.speak(node);
    return node;
  }

  async speak(node: TestNode): Promise<void> {
    const session = await node.store.session(10_000);
    try {
      await node.registration.announce(session);
      node.session = session;
    } finally {
      if (node.session !== session) await session[Symbol.asyncDispose]();
    }
  }

  async silence(node: TestNode): Promise<void> {
    await node.session?.[Symbol.asyncDispose]();
    node.session = undefined;
  }

  /** The instance is terminated: the node falls silent and the cloud knows why. */
  async die(node: TestNode): Promise<void> {
    this.vpc.instances.set(node.registration.uid, "gone");
    await this.silence(node);
  }

  async lease(registration: Registration, hosts: readonly number[]): Promise<void> {
    const base = registration.subnet.slice(0, registration.subnet.lastIndexOf(".") + 1);
    await registration.mirror(
      hosts.map((host) => {
        const record: LeaseRecord = {
          node: registration.node,
          mac: `02:00:00:00:00:${String(host).padStart(2, "0")}`,
          expiry: "2026-01-02T00:00:00.000Z",
          seq: host,
        };
        return [`${base}${host}`, record];
      }),
    );
  }

  start(
    id: string,
    more: ControllerSettings & {
      readonly skewMs?: number;
      readonly prepare?: (controller: {
        store: InterposedStore;
        link: MemoryLink;
        cloud: ScriptedCloud;
      }) => void;
    } = {},
  ): TestController {
    const { skewMs = 0, prepare, ...changed } = more;
    const link = new MemoryLink();
    const store = new InterposedStore(openMemoryStore({ database: this.database, link }));
    const cloud = new ScriptedCloud(this.vpc, id);
    const events: ControllerEvent[] = [];
    const stop = new AbortController();
    prepare?.({ store, link, cloud });
    const controller = createController({
      ...settings,
      ...changed,
      store,
      cloudFor: () => cloud,
      id,
      clock: virtualClock(this.clock, skewMs),
      onEvent: (event) => events.push(event),
    });
    const started: TestController = {
      id,
      controller,
      store,
      link,
      cloud,
      events,
      stop,
      done: controller.run({ signal: stop.signal }),
      kill: () => {
        cloud.dead = true;
        link.blackhole();
      },
    };
    started.done.catch(() => undefined);
    this.controllers.push(started);
    return started;
  }

  /** Lets virtual time pass. */
  async pass(ms: number): Promise<void> {
    await this.clock.advance(ms);
  }

  /** Lets virtual time pass until the condition holds. */
  async until(
    what: string,
    condition: () => boolean | Promise<boolean>,
    limitMs = 600_000,
    stepMs = 250,
  ): Promise<void> {
    const end = this.clock.now() + limitMs;
    await this.pass(0);
    while (!(await condition())) {
      if (this.clock.now() >= end) throw new Error(`waited ${limitMs} virtual ms in vain for: ${what}`);
      await this.pass(stepMs);
    }
  }

  /** Everything but who leads, who joins and the event log, as it stands in the store. */
  async records(): Promise<Record<string, unknown>> {
    const { entries } = await listAll(this.store, "");
    return Object.fromEntries(
      entries
        .filter(({ key }) => !/^(leader|controller|incarnation|joining|acted\/|events\/)/.test(key))
        .map(({ key, value }) => [key, JSON.parse(value) as unknown]),
    );
  }

  /** The types of the events in the log about a node, in their order. */
  async history(node: string): Promise<string[]> {
    const { entries } = await listAll(this.store, prefixes.events);
    const events = entries.map((entry) => ({ at: entry.modRevision, ...decode(eventSchema, entry) }));
    return events
      .filter((event) => event.node === node)
      .sort((a, b) => a.at - b.at)
      .map(({ type }) => type);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { stop } of this.controllers) stop.abort();
    // The store calls of a killed one end by their deadlines.
    await this.pass(5_000);
    await Promise.all(this.controllers.map(({ done }) => done));
    expect(this.violations).toEqual([]);
  }

  /** After every commit: G1, and G5 for blocks that have just become free. */
  #checkInvariants(): void {
    const all = this.database.list("", Number.POSITIVE_INFINITY, undefined);
    const slots = new Map(
      all.filter(({ key }) => key.startsWith("slots/")).map(({ key, value }) => [key.slice(6), value]),
    );
    for (const { key, value } of all) {
      if (!key.startsWith("subnets/")) continue;
      for (const cidr of slotsOf(parseCidr(JSON.parse(value)), 24)) {
        const slot = slots.get(formatCidr(cidr));
        if (slot === undefined || (JSON.parse(slot) as { node: string }).node !== key.slice(8)) {
          this.violations.push(`G1: ${key} owns ${value}, its slot says ${slot}`);
        }
      }
    }
    for (const [id, nic] of this.vpc.nics) {
      if (!slots.has(nic.subnet)) this.violations.push(`G5: ${nic.subnet} is free, ${id} still holds it`);
    }
  }
}

export function virtualClock(clock: ManualClock, skewMs: number): Clock {
  return {
    now: () => new Date(startOfTime + clock.now() + skewMs),
    monotonic: () => clock.now() + 7_777_777 + skewMs,
    wait: (ms, signal) =>
      new Promise((resolve, reject) => {
        signal?.throwIfAborted();
        const onAbort = () => {
          cancel();
          reject(signal?.reason);
        };
        const cancel = clock.after(ms, () => {
          signal?.removeEventListener("abort", onAbort);
          resolve();
        });
        signal?.addEventListener("abort", onAbort, { once: true });
      }),
  };
}

/** The final record of a node that was reclaimed, and had its block since `epoch`. */
export function leftRecord(name: string, subnet: string, epoch: unknown): Record<string, unknown> {
  return {
    uid: `i-${name}`,
    instanceID: `i-${name}`,
    status: "left",
    lastSeen: new Date(startOfTime).toISOString(),
    subnet,
    platform: "scripted",
    eniIDs: [],
    agentVersion: "1.0.0",
    pool,
    ended: [epoch],
  };
}
