import {
  FencedError,
  heartbeat,
  keys,
  prefixes,
  Recovery,
  type RegisterOptions,
  type Registration,
  Registry,
  type RegistryOptions,
  type Store,
  UnavailableError,
} from "@cocoon-net/core";
import { type Bench, until, within } from "@cocoon-net/store-testkit";
import { contentsOf, incarnationIn, loseClaim, openCluster, ownersIn, requestOf } from "./cluster-fixture.ts";
import { interceptTxn, onServer, type ServerName } from "./intercepted-store.ts";
import { lastingTtlMs, patienceMs, type Rule } from "./rule.ts";

/** Short, so that a test can wait for its end. */
const recoveryMs = 1_500;

/** What windows are measured by: it stands still until the test has done what belongs into the window. */
export class WindowClock {
  #runningSince: number | undefined;

  readonly now = (): number =>
    this.#runningSince === undefined ? 0 : performance.now() - this.#runningSince;

  run(): void {
    this.#runningSince ??= performance.now();
  }
}

export interface ChangingServer {
  readonly store: Store;
  /** The same without the server's changes. */
  readonly plain: Store;
  readonly server: ServerName;
  readonly clock: WindowClock;
  /** Goes by that clock, on `store` where no other is named. */
  registry(options?: RegistryOptions, over?: Store): Registry;
  register(node: string, options?: RegisterOptions): Promise<Registration>;
}

/** A cluster with a short window, on a server that can be another one from some moment on. */
export async function onChangingServer(bench: Bench, windowMs = recoveryMs): Promise<ChangingServer> {
  const plain = await openCluster(bench, { recoveryMs: windowMs });
  const server: ServerName = { name: "" };
  const store = onServer(plain, server);
  const clock = new WindowClock();
  const registry = (options: RegistryOptions = {}, over: Store = store): Registry =>
    new Registry(over, { ...options, monotonic: clock.now });
  // A window begins anew for whoever has stood still for as long.
  const register = (node: string, options?: RegisterOptions): Promise<Registration> =>
    registry().register(requestOf(node), { maxWaitMs: patienceMs, ...options });
  return { plain, server, store, clock, registry, register };
}

export function recoveryRules(rule: Rule): void {
  rule(
    "a node that joins waits while the others say what they own, and gets another subnet",
    async (bench, expect) => {
      const { plain, server, clock, register } = await onChangingServer(bench);
      const a = await register("a");
      const b = await register("b");
      await loseClaim(plain, b);
      server.name = "2";
      const told: string[] = [];
      const joining = register("c", { onWait: (message) => told.push(message) });
      await until("the window", patienceMs, async () => (await incarnationIn(plain)).recovering);
      await b.confirm();
      clock.run();
      const c = await joining;
      expect(clock.now()).toBeGreaterThanOrEqual(recoveryMs);
      expect(told).toEqual([expect.stringContaining("may have lost writes")]);
      await a.verify();
      expect([a, b, c].map(({ subnet }) => subnet)).toEqual(["10.64.0.0/24", "10.64.1.0/24", "10.64.2.0/24"]);
      expect(await ownersIn(plain)).toEqual(new Map([a, b, c].map(({ node, subnet }) => [node, subnet])));
      const { id, recovering } = await incarnationIn(plain);
      expect(recovering).toBe(false);
      expect([b.incarnation, c.incarnation]).toEqual([id, id]);
    },
  );

  rule("a node that is registered is found while the store recovers", async (bench, expect) => {
    const { plain, server, register } = await onChangingServer(bench);
    const a = await register("a");
    server.name = "2";
    expect(await register("a")).toMatchObject({ subnet: a.subnet, epoch: a.epoch });
    expect((await incarnationIn(plain)).recovering).toBe(true);
  });

  rule("waiting has an end, and can be aborted", async (bench, expect) => {
    const { server, clock, register } = await onChangingServer(bench);
    await register("a");
    server.name = "2";
    clock.run();
    const late = register("b", { maxWaitMs: 100 });
    await expect(late).rejects.toThrow(UnavailableError);
    await expect(late).rejects.toThrow(/may have lost writes .*: new nodes wait until/);
    await expect(register("b", { signal: AbortSignal.timeout(100) })).rejects.toThrow("aborted");
  });

  // G1: the claim is made on a server that has lost b's, before anybody has noticed.
  for (const answer of ["comes", "is lost"]) {
    rule(
      `a claim that meets a changed server, and whose answer ${answer}, is undone`,
      async (bench, expect) => {
        const { store, plain, server, clock, registry, register } = await onChangingServer(bench);
        const a = await register("a");
        const b = await register("b");
        let claims = 0;
        let made = false;
        const overtaken = interceptTxn(store, async ({ then = [] }, pass) => {
          if (!then.some((operation) => "put" in operation && operation.put === keys.subnet("c")))
            return pass();
          claims += 1;
          if (claims > 1) return pass();
          await loseClaim(plain, b);
          server.name = "2";
          const result = await pass();
          expect((await ownersIn(plain)).get("c")).toBe(b.subnet);
          made = true;
          if (answer === "comes") return result;
          throw new UnavailableError("the answer was lost", { outcome: "unknown" });
        });
        const joining = registry({}, overtaken).register(requestOf("c", b.subnet), {
          maxWaitMs: patienceMs,
        });
        joining.catch(() => {});
        await until(
          "the claim to be undone",
          patienceMs,
          async () => made && !(await ownersIn(plain)).has("c"),
        );
        await b.confirm();
        clock.run();
        await expect(joining).rejects.toThrow(/belongs to node b/);
        expect(await ownersIn(plain)).toEqual(new Map([a, b].map(({ node, subnet }) => [node, subnet])));
      },
    );
  }

  rule("a claim made after somebody else has opened the window waits for its end", async (bench, expect) => {
    const { store, plain, server } = await onChangingServer(bench);
    const overtaken = interceptTxn(plain, async ({ then = [] }, pass) => {
      const claims = then.some((operation) => "put" in operation && operation.put === keys.subnet("a"));
      if (claims && server.name === "") {
        // This handle sees the same server still.
        server.name = "2";
        await new Recovery(store).look();
        const { succeeded } = await pass();
        expect(succeeded).toBe(false);
        return { succeeded, step: 1, revision: 0, reads: [] };
      }
      return pass();
    });
    const started = performance.now();
    await new Registry(overtaken).register(requestOf("a"), { maxWaitMs: patienceMs });
    expect(performance.now() - started).toBeGreaterThanOrEqual(recoveryMs);
  });

  rule("heartbeats alone end the window, and not before time", async (bench, expect) => {
    const { store, plain, server, clock, register } = await onChangingServer(bench);
    const a = await register("a");
    const stop = new AbortController();
    let owned = 0;
    const beating = heartbeat(store, a, {
      ttlMs: lastingTtlMs,
      signal: stop.signal,
      onOwned: () => void owned++,
      onUnsure: () => {},
    });
    try {
      await until("the first time", patienceMs, () => owned === 1);
      server.name = "2";
      await until("the window", patienceMs, async () => (await incarnationIn(plain)).recovering);
      // Its leases may be missing too.
      await until("the catch-up", patienceMs, () => owned === 2);
      clock.run();
      await until("its end", patienceMs, async () => !(await incarnationIn(plain)).recovering);
      expect(clock.now()).toBeGreaterThanOrEqual(recoveryMs);
      expect(owned).toBe(2);
    } finally {
      stop.abort();
      await beating;
    }
  });

  rule(
    "a window counts from the last loss, and from the last time that the store was away",
    async (bench, expect) => {
      const { store, plain, server } = await onChangingServer(bench, 600);
      let now = 0;
      let away = false;
      const failing = interceptTxn(store, async (_, pass) => {
        if (away) throw new UnavailableError("no answer", { outcome: "none" });
        return pass();
      });
      const recovery = new Recovery(failing, { monotonic: () => now });
      const look = async (at: number): Promise<boolean> => {
        now = at;
        return (await recovery.look()).incarnation.recovering;
      };
      expect(await look(0)).toBe(false);
      server.name = "2";
      expect(await look(100)).toBe(true);
      const first = await incarnationIn(plain);
      server.name = "3";
      expect(await look(500)).toBe(true);
      expect((await incarnationIn(plain)).id).not.toBe(first.id);
      expect(await look(1_000)).toBe(true);
      away = true;
      await expect(look(1_050)).rejects.toThrow("no answer");
      away = false;
      expect(await look(1_100)).toBe(true);
      expect(await look(1_650)).toBe(true);
      expect(await look(1_700)).toBe(false);
      // A process that was stopped has not watched.
      server.name = "4";
      expect(await look(2_000)).toBe(true);
      expect(await look(9_000)).toBe(true);
      expect(await look(9_500)).toBe(true);
      expect(await look(9_600)).toBe(false);
    },
  );

  rule("observers to whom the server says different things agree all the same", async (bench, expect) => {
    const { plain, store, server, clock } = await onChangingServer(bench);
    const options = { monotonic: clock.now };
    const [seen, fresh] = [new Recovery(store, options), new Recovery(plain, options)];
    await seen.look();
    // Only this one has seen the history fall back.
    server.name = "+1";
    const ids = new Set<string>();
    for (let turn = 0; turn < 5; turn++) {
      for (const recovery of [seen, fresh]) ids.add((await recovery.look()).incarnation.id);
    }
    expect(ids.size).toBeLessThanOrEqual(2);
    expect((await incarnationIn(plain)).recovering).toBe(true);
  });

  rule("of many that notice a loss at once, one opens the window", async (bench, expect) => {
    const { plain, server, register } = await onChangingServer(bench);
    const nodes = await Promise.all(Array.from({ length: 20 }, (_, i) => register(`n${i}`)));
    for (const node of nodes.slice(10)) await loseClaim(plain, node);
    server.name = "2";
    await within("all", patienceMs, Promise.all(nodes.map((node) => node.confirm())));
    const { id } = await incarnationIn(plain);
    expect(new Set(nodes.map(({ incarnation }) => incarnation))).toEqual(new Set([id]));
    expect(await ownersIn(plain)).toEqual(new Map(nodes.map(({ node, subnet }) => [node, subnet])));
    const events = Object.values(await contentsOf(plain, prefixes.events));
    expect(events.filter((event) => event.includes("store-recovering"))).toHaveLength(1);
  });

  rule("without a loss a missing claim is a lost subnet (G3)", async (bench, expect) => {
    const { plain, register } = await onChangingServer(bench);
    const a = await register("a");
    await loseClaim(plain, a);
    await expect(a.confirm()).rejects.toThrow(FencedError);
    await expect(a.verify()).rejects.toThrow(FencedError);
    expect((await incarnationIn(plain)).recovering).toBe(false);
  });
}
