import { formatAddress, parseAddress } from "@cocoon-net/core";
import { type Grant, LeaseEngine } from "@cocoon-net/dhcp";
import fc from "fast-check";
import { expect, it } from "vitest";
import { gateway, macOf, optionsWithPool, request } from "./client-messages.ts";

/** What a guest and an operator know: who was told to have which address until when. */
interface Model {
  now: number;
  pool: number;
  granting: "open" | "renew-only" | "refuse";
  /** Acknowledged leases by address; ours to break if the engine gives one to somebody else. */
  readonly leases: Map<string, { mac: string; expiry: number; seq: number }>;
  readonly pending: Map<string, Grant>;
  /** VMs that were removed while a grant of theirs was pending: their leases end early. */
  readonly gone: Set<string>;
}

interface Real {
  engine: LeaseEngine;
}

type Command = fc.Command<Model, Real>;

function check(model: Model, { engine }: Real): void {
  const counts = engine.counts();
  const { free, offered, leased, cooling, declined, reserved, pool, outside } = counts;
  // G10
  expect(free + offered + leased + cooling + declined + reserved).toBe(pool);
  expect(pool).toBe(model.pool);
  expect(Math.min(free, offered, leased, cooling, declined, reserved, outside)).toBeGreaterThanOrEqual(0);
  // G2
  const leases = [...engine.leases()];
  expect(new Set(leases.map(({ ip }) => ip)).size).toBe(leases.length);
  expect(new Set(leases.map(({ mac }) => mac)).size).toBe(leases.length);
  expect(leased + outside).toBe(leases.length);
  // Every lease that was acknowledged and neither ended nor moved is still there, for the same client.
  for (const [ip, { mac, expiry }] of model.leases) {
    if (expiry > model.now) expect(engine.leaseOf(parseAddress(ip))).toMatchObject({ mac, expiry });
  }
}

function settle(model: Model, real: Real, grant: Grant, commit: boolean): void {
  model.pending.delete(grant.lease.mac);
  if (!commit || !real.engine.commit(grant)) {
    real.engine.abort(grant);
    return;
  }
  const { ip, mac, expiry, seq } = grant.lease;
  const holder = model.leases.get(ip);
  if (holder !== undefined && holder.expiry > model.now) expect(holder.mac).toBe(mac); // G2, as the guests see it
  for (const [other, lease] of model.leases) if (lease.mac === mac) model.leases.delete(other);
  model.leases.set(ip, { mac, expiry, seq });
}

class Discover implements Command {
  readonly client: number;
  readonly wanted: number;
  constructor(client: number, wanted: number) {
    this.client = client;
    this.wanted = wanted;
  }
  check(): boolean {
    return true;
  }
  run(model: Model, real: Real): void {
    const mac = macOf(this.client);
    const decision = real.engine.handle(
      request({ type: "discover", mac, requested: ipOf(this.wanted) }),
      model.now,
      portOf(this.client),
    );
    if (decision.kind === "offer") {
      const held = model.leases.get(formatAddress(decision.address));
      if (held !== undefined && held.expiry > model.now) expect(held.mac).toBe(mac);
    }
    check(model, real);
  }
  toString(): string {
    return `discover(${this.client}, ${ipOf(this.wanted)})`;
  }
}

class Request implements Command {
  readonly client: number;
  readonly wanted: number;
  readonly state: "selecting" | "renewing" | "rebooting" | "elsewhere";
  readonly outcome: "commit" | "abort" | "later";
  constructor(client: number, wanted: number, state: Request["state"], outcome: Request["outcome"]) {
    this.client = client;
    this.wanted = wanted;
    this.state = state;
    this.outcome = outcome;
  }
  check(): boolean {
    return true;
  }
  run(model: Model, real: Real): void {
    const mac = macOf(this.client);
    const ip = ipOf(this.wanted);
    const seqBefore = real.engine.seq;
    const fields = {
      selecting: { requested: ip, server: gateway },
      renewing: { ciaddr: ip },
      rebooting: { requested: ip },
      elsewhere: { requested: ip, server: "10.0.0.200" },
    }[this.state];
    const decision = real.engine.handle(
      request({ type: "request", mac, ...fields }),
      model.now,
      portOf(this.client),
    );
    if (decision.kind === "grant") {
      expect(model.granting).not.toBe("refuse");
      expect(decision.lease.seq).toBeGreaterThan(seqBefore);
      model.pending.set(mac, decision);
      if (this.outcome !== "later") settle(model, real, decision, this.outcome === "commit");
    }
    check(model, real);
  }
  toString(): string {
    return `request(${this.client}, ${ipOf(this.wanted)}, ${this.state}, ${this.outcome})`;
  }
}

class Settle implements Command {
  readonly commit: boolean;
  constructor(commit: boolean) {
    this.commit = commit;
  }
  check(model: Readonly<Model>): boolean {
    return model.pending.size > 0;
  }
  run(model: Model, real: Real): void {
    const [grant] = model.pending.values();
    if (grant !== undefined) settle(model, real, grant, this.commit);
    check(model, real);
  }
  toString(): string {
    return this.commit ? "commit" : "abort";
  }
}

class End implements Command {
  readonly type: "release" | "decline";
  readonly client: number;
  readonly wanted: number;
  constructor(type: End["type"], client: number, wanted: number) {
    this.type = type;
    this.client = client;
    this.wanted = wanted;
  }
  check(): boolean {
    return true;
  }
  run(model: Model, real: Real): void {
    const mac = macOf(this.client);
    const ip = ipOf(this.wanted);
    const decision = real.engine.handle(
      request({ type: this.type, mac, ciaddr: ip, requested: ip }),
      model.now,
    );
    if (decision.kind === "release" || decision.kind === "decline") {
      if (decision.lease !== undefined) expect(decision.lease).toMatchObject({ mac, ip }); // G4
      if (model.leases.get(ip)?.mac === mac) model.leases.delete(ip);
    }
    check(model, real);
  }
  toString(): string {
    return `${this.type}(${this.client}, ${ipOf(this.wanted)})`;
  }
}

class Wait implements Command {
  readonly ms: number;
  constructor(ms: number) {
    this.ms = ms;
  }
  check(): boolean {
    return true;
  }
  run(model: Model, real: Real): void {
    model.now += this.ms;
    for (const { lease } of real.engine.expire(model.now)) {
      if (!model.gone.has(lease.mac)) expect(lease.expiry).toBeLessThanOrEqual(model.now);
      if (model.leases.get(lease.ip)?.seq === lease.seq) model.leases.delete(lease.ip);
    }
    const next = real.engine.nextExpiry();
    if (next !== undefined) expect(next).toBeGreaterThan(model.now);
    check(model, real);
  }
  toString(): string {
    return `wait(${this.ms})`;
  }
}

class Configure implements Command {
  readonly size: number;
  readonly granting: Model["granting"];
  constructor(size: number, granting: Model["granting"]) {
    this.size = size;
    this.granting = granting;
  }
  check(): boolean {
    return true;
  }
  run(model: Model, real: Real): void {
    model.pool = this.size;
    model.granting = this.granting;
    real.engine.configure({ pool: optionsWithPool(this.size).pool, granting: this.granting });
    check(model, real);
  }
  toString(): string {
    return `configure(${this.size}, ${this.granting})`;
  }
}

class Vm implements Command {
  readonly what: "assign" | "remove";
  readonly vm: number;
  readonly client: number;
  constructor(what: Vm["what"], vm: number, client: number) {
    this.what = what;
    this.vm = vm;
    this.client = client;
  }
  check(): boolean {
    return true;
  }
  run(model: Model, real: Real): void {
    const mac = macOf(this.client);
    const before = [...real.engine.leases()];
    if (this.what === "assign") {
      const { ended } = real.engine.assignVm(`vm${this.vm}`, mac, model.now);
      if (ended !== undefined) this.#end(model, ended.lease);
      // The pending grant of the VM that had the MAC is void.
      if (model.pending.has(mac)) this.#endPending(model, mac);
    } else {
      for (const { lease } of real.engine.removeVm(`vm${this.vm}`, model.now)) {
        expect(before.some(({ ip, seq }) => ip === lease.ip && seq === lease.seq)).toBe(true);
        this.#end(model, lease);
      }
      for (const pending of model.pending.keys()) this.#endPending(model, pending);
    }
    check(model, real);
  }
  #end(model: Model, { ip, seq }: { ip: string; seq: number }): void {
    if (model.leases.get(ip)?.seq === seq) model.leases.delete(ip);
  }
  #endPending(model: Model, mac: string): void {
    model.gone.add(mac);
    for (const [ip, lease] of model.leases) if (lease.mac === mac) model.leases.delete(ip);
  }
  toString(): string {
    return `${this.what}(vm${this.vm}, ${this.client})`;
  }
}

class Reserve implements Command {
  readonly client: number;
  readonly wanted: number;
  constructor(client: number, wanted: number) {
    this.client = client;
    this.wanted = wanted;
  }
  check(): boolean {
    return true;
  }
  run(model: Model, real: Real): void {
    const reservations = [{ mac: macOf(this.client), address: parseAddress(ipOf(this.wanted)) }];
    real.engine.configure({ reservations: this.client === 5 ? [] : reservations });
    check(model, real);
  }
  toString(): string {
    return `reserve(${this.client}, ${ipOf(this.wanted)})`;
  }
}

class InUse implements Command {
  readonly wanted: number;
  constructor(wanted: number) {
    this.wanted = wanted;
  }
  check(): boolean {
    return true;
  }
  run(model: Model, real: Real): void {
    const record = real.engine.putAside(parseAddress(ipOf(this.wanted)), model.now);
    if (record !== undefined)
      expect(model.leases.get(ipOf(this.wanted))?.expiry ?? 0).toBeLessThanOrEqual(model.now);
    check(model, real);
  }
  toString(): string {
    return `in-use(${ipOf(this.wanted)})`;
  }
}

/** Two clients behind each port; those of one are not known. */
const portOf = (client: number): string | undefined => (client === 5 ? undefined : `p${client >> 1}`);

class Restart implements Command {
  check(model: Readonly<Model>): boolean {
    return model.pending.size === 0;
  }
  run(model: Model, real: Real): void {
    const records = [...real.engine.records()];
    real.engine = new LeaseEngine(real.engine.options, { seq: real.engine.seq, records });
    check(model, real);
  }
  toString(): string {
    return "restart";
  }
}

const ipOf = (index: number): string => `10.0.0.${2 + index}`;

it("conserves the pool and gives no address to two clients, whatever happens (G2, G10)", () => {
  const client = fc.integer({ min: 1, max: 5 });
  const wanted = fc.integer({ min: 0, max: 5 });
  const state = fc.constantFrom("selecting", "renewing", "rebooting", "elsewhere");
  const outcome = fc.constantFrom("commit", "commit", "commit", "abort", "later");
  const commands = [
    fc.tuple(client, wanted).map(([c, w]) => new Discover(c, w)),
    fc.tuple(client, wanted, state, outcome).map(([c, w, s, o]) => new Request(c, w, s, o)),
    fc.boolean().map((commit) => new Settle(commit)),
    fc.tuple(fc.constantFrom("release", "decline"), client, wanted).map(([t, c, w]) => new End(t, c, w)),
    fc.constantFrom(1, 999, 30_000, 60_000, 3_600_000, 43_200_000, 86_400_000).map((ms) => new Wait(ms)),
    fc
      .tuple(fc.integer({ min: 0, max: 5 }), fc.constantFrom("open", "open", "renew-only", "refuse"))
      .map(([size, granting]) => new Configure(size, granting)),
    fc
      .tuple(fc.constantFrom("assign", "remove"), fc.integer({ min: 1, max: 3 }), client)
      .map(([what, vm, c]) => new Vm(what, vm, c)),
    fc.tuple(client, wanted).map(([c, w]) => new Reserve(c, w)),
    wanted.map((w) => new InUse(w)),
    fc.constant(new Restart()),
  ];
  fc.assert(
    fc.property(fc.commands(commands, { maxCommands: 60 }), (run) => {
      fc.modelRun(() => {
        const model: Model = {
          now: Date.UTC(2026, 10, 1),
          pool: 4,
          granting: "open",
          leases: new Map(),
          pending: new Map(),
          gone: new Set(),
        };
        return { model, real: { engine: new LeaseEngine(optionsWithPool(4, { leasesPerPort: 1 })) } };
      }, run);
    }),
    { numRuns: 1500 },
  );
});
