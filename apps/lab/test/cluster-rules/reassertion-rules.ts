import {
  ConflictError,
  CopyTarget,
  copyCluster,
  decode,
  FencedError,
  heartbeat,
  initCluster,
  keys,
  listAll,
  nodeSchema,
  type RawConfig,
  Registration,
  readCluster,
  type Store,
} from "@cocoon-net/core";
import { until } from "@cocoon-net/store-testkit";
import {
  contentsOf,
  endQuarantine,
  eventsOf,
  incarnationIn,
  leaseOf,
  loseClaim,
  ownersIn,
  requestOf,
  takeAway,
} from "./cluster-fixture.ts";
import { beforeWriting, loseAnswers } from "./intercepted-store.ts";
import { type ChangingServer, onChangingServer } from "./recovery-rules.ts";
import { lastingTtlMs, patienceMs, type Rule } from "./rule.ts";

const register = ({ registry }: ChangingServer, node: string, subnet?: string): Promise<Registration> =>
  registry().register(requestOf(node, subnet), { maxWaitMs: patienceMs });

/** The same registration in another process: of what it knows only what is on its disk. */
function restarted(
  store: Store,
  { node, uid, subnet, epoch, incarnation, config }: Registration,
): Registration {
  return new Registration(store, { node, uid, subnet, epoch, incarnation, config });
}

/** Lets the window pass: a node that joins waits for that. */
async function recovered({ register, clock }: ChangingServer): Promise<void> {
  clock.run();
  await register("waits");
}

export function reassertionRules(rule: Rule): void {
  rule(
    "a lost claim is made again under a new epoch, with its record, by whichever write comes first",
    async (bench, expect) => {
      const it = await onChangingServer(bench);
      const { plain, server } = it;
      const kept: [number, string | undefined][] = [];
      const registry = it.registry({
        onChanged: ({ epoch, incarnation }) => void kept.push([epoch, incarnation]),
      });
      const request = { ...requestOf("a", "10.64.4.0/22"), instanceID: "i-1", eniIDs: ["eni-1"], zone: "z" };
      const a = await registry.register(request);
      const before = a.epoch;
      await loseClaim(plain, a);
      server.name = "2";
      await a.mirror([["10.64.5.1", leaseOf("a")]]);
      expect(a.epoch).toBeGreaterThan(before);
      expect(kept).toEqual([[a.epoch, (await incarnationIn(plain)).id]]);
      const contents = await contentsOf(plain);
      expect(JSON.parse(contents["nodes/a"] ?? "")).toMatchObject({
        ...{ uid: "uid-a", status: "ready", subnet: "10.64.4.0/22" },
        ...{ instanceID: "i-1", eniIDs: ["eni-1"], zone: "z" },
      });
      for (const slot of ["10.64.4.0/24", "10.64.5.0/24", "10.64.6.0/24", "10.64.7.0/24"]) {
        expect(contents[keys.slot(slot)]).toBe(JSON.stringify({ node: "a", uid: "uid-a" }));
      }
      expect(contents["pool/10.64.5.1"]).toBeDefined();
      expect(await eventsOf(plain, "a")).toEqual(["node-registered", "node-reasserted"]);
      await a.leave();
      expect(await ownersIn(plain)).toEqual(new Map());
    },
  );

  rule(
    "a node that ends before it has written its new epoch down goes on with the old one",
    async (bench, expect) => {
      const it = await onChangingServer(bench);
      const { store, plain, server } = it;
      const a = await register(it, "a");
      const early = restarted(store, a);
      await loseClaim(plain, a);
      server.name = "2";
      const lossy = restarted(loseAnswers(store, keys.subnet("a"), "unknown"), a);
      await expect(lossy.confirm()).rejects.toMatchObject({ code: "unavailable" });
      await early.confirm();
      expect(early.epoch).toBeGreaterThan(a.epoch);
      await early.verify();
      await lossy.verify();
      expect(lossy.epoch).toBe(early.epoch);
    },
  );

  rule("a node that was away for the whole window asserts what nobody has taken", async (bench, expect) => {
    const it = await onChangingServer(bench);
    const { plain, server } = it;
    const [a, b] = [await register(it, "a"), await register(it, "b")];
    await loseClaim(plain, a);
    await loseClaim(plain, b);
    server.name = "2";
    // Takes the lowest slot, a's.
    await recovered(it);
    await b.confirm();
    expect((await ownersIn(plain)).get("b")).toBe(b.subnet);
    await expect(a.confirm()).rejects.toThrow(/belongs to node waits/);
    await expect(a.confirm()).rejects.toThrow(FencedError);
    expect(await eventsOf(plain, "a")).toContain("ownership-conflict");
  });

  rule(
    "while the store recovers nobody is fenced; whoever is on record keeps the slot",
    async (bench, expect) => {
      const it = await onChangingServer(bench);
      const { plain, server } = it;
      const a = await register(it, "a", "10.64.8.0/24");
      await loseClaim(plain, a);
      const b = await register(it, "b", "10.64.8.0/24");
      server.name = "2";
      await expect(a.confirm()).rejects.toThrow(ConflictError);
      await expect(a.confirm()).rejects.toThrow(/10\.64\.8\.0\/24 belongs to node b; it is decided when/);
      await recovered(it);
      await expect(a.mirror([["10.64.8.1", leaseOf("a")]])).rejects.toThrow(FencedError);
      await b.verify();
      expect(await eventsOf(plain, "a")).toEqual(["node-registered", "ownership-conflict"]);
      expect(await contentsOf(plain, "pool/")).toEqual({});
    },
  );

  for (const record of ["names what has ended", "is of a version before"]) {
    rule(
      `a node that was reclaimed asserts nothing, whether or not its slot is free: its record ${record} (G3, G5)`,
      async (bench, expect) => {
        const it = await onChangingServer(bench);
        const { store, plain, server } = it;
        const a = await register(it, "a");
        await takeAway(plain, a);
        if (record === "is of a version before") {
          const { entry } = await plain.get(keys.node("a"));
          const { ended: _, ...older } = JSON.parse(entry?.value ?? "");
          await plain.txn({ then: [{ put: keys.node("a"), value: JSON.stringify(older) }] });
        }
        server.name = "2";
        await expect(restarted(store, a).confirm()).rejects.toThrow(FencedError);
        await endQuarantine(plain, a.subnet);
        await expect(restarted(store, a).confirm()).rejects.toThrow(FencedError);
        await recovered(it);
        await expect(restarted(store, a).confirm()).rejects.toThrow(FencedError);
        expect((await ownersIn(plain)).has("a")).toBe(false);
      },
    );
  }

  rule("a reclaimed node whose record is lost loses to the one that has its slot", async (bench, expect) => {
    const it = await onChangingServer(bench);
    const { plain, server } = it;
    const a = await register(it, "a");
    await takeAway(plain, a);
    await endQuarantine(plain, a.subnet);
    const b = await register(it, "b", a.subnet);
    await plain.txn({ then: [{ delete: keys.node("a") }] });
    server.name = "2";
    await expect(a.confirm()).rejects.toThrow(ConflictError);
    await b.confirm();
    await recovered(it);
    await expect(a.confirm()).rejects.toThrow(FencedError);
    await b.verify();
  });

  rule("an ended ownership ends none that came after it under the same name", async (bench, expect) => {
    const it = await onChangingServer(bench);
    const { plain, server } = it;
    const first = await register(it, "a");
    await first.leave();
    const second = await register(it, "a");
    const { entry } = await plain.get(keys.node("a"));
    expect(decode(nodeSchema, entry ?? { key: "", value: "" }).ended).toEqual([first.epoch]);
    await loseClaim(plain, second);
    await plain.txn({
      then: [
        { put: keys.node("a"), value: JSON.stringify({ ...JSON.parse(entry?.value ?? ""), status: "left" }) },
      ],
    });
    server.name = "2";
    await expect(first.confirm()).rejects.toThrow(FencedError);
    await second.confirm();
    expect((await ownersIn(plain)).get("a")).toBe(second.subnet);
  });

  rule("a name that another instance has meanwhile is not taken from it (G12)", async (bench, expect) => {
    const it = await onChangingServer(bench);
    const { plain, server } = it;
    const old = await register(it, "a");
    await loseClaim(plain, old);
    const other = await it.registry().register(requestOf("a", "10.64.9.0/24", "uid-other"));
    server.name = "2";
    await expect(old.confirm()).rejects.toThrow(ConflictError);
    await recovered(it);
    await expect(old.confirm()).rejects.toThrow(/registered anew with "10.64.9.0\/24"/);
    await other.verify();
  });

  rule(
    "a slot that is taken just before it is asserted stays with whoever took it (G1)",
    async (bench, expect) => {
      const it = await onChangingServer(bench);
      const { store, plain, server } = it;
      const a = await register(it, "a");
      await loseClaim(plain, a);
      const slot = keys.slot(a.subnet);
      const raced = beforeWriting(store, keys.subnet("a"), async () => {
        await plain.txn({ then: [{ put: slot, value: JSON.stringify({ node: "b", uid: "uid-b" }) }] });
      });
      server.name = "2";
      await expect(restarted(raced, a).confirm()).rejects.toThrow(ConflictError);
      expect((await contentsOf(plain))[slot]).toContain("uid-b");
      expect(await ownersIn(plain)).toEqual(new Map());
    },
  );

  rule(
    "a cluster out of a file begins with a window, one that is copied whole does not",
    async (bench, expect) => {
      const { plain } = await onChangingServer(bench);
      const [copy, file] = [
        await bench.open(`${bench.prefix}-copy`),
        await bench.open(`${bench.prefix}-file`),
      ];
      const { entries } = await listAll(plain, "");
      await copyCluster(plain, copy);
      await importInto(file, entries);
      expect((await incarnationIn(copy)).recovering).toBe(false);
      expect((await incarnationIn(file)).recovering).toBe(true);
    },
  );

  rule(
    "a node that registers anew gets back what it has on record, before anything else",
    async (bench, expect) => {
      const it = await onChangingServer(bench);
      const { plain, server } = it;
      const a = await register(it, "a", "10.64.7.0/24");
      const b = await register(it, "b");
      await loseClaim(plain, a);
      server.name = "2";
      const again = (node: Registration) => it.registry().register({ ...requestOf(node.node), former: node });
      expect(await again(a)).toMatchObject({ subnet: a.subnet });
      expect(await again(b)).toMatchObject({ subnet: b.subnet, epoch: b.epoch });
      // One that has really lost it gets another one.
      await takeAway(plain, b);
      await endQuarantine(plain, b.subnet);
      it.clock.run();
      const c = await register(it, "c", b.subnet);
      expect((await again(b)).subnet).not.toBe(c.subnet);
    },
  );

  rule(
    "a store that is empty, or holds another cluster, is refused and never made a new one of",
    async (bench, expect) => {
      const it = await onChangingServer(bench);
      const { store, plain } = it;
      const a = await register(it, "a");
      const { clusterUID } = a.config;
      const init = { parentCIDR: "10.64.0.0/16", platform: "test" };
      const calls = [
        () => initCluster(store, { ...init, clusterUID }),
        () => readCluster(store, { clusterUID }),
        () => it.registry().register({ ...requestOf("a"), clusterUID, former: a }),
        () => a.confirm(),
        () => a.mirror([["10.64.0.1", leaseOf("a")]]),
      ];
      await clear(plain);
      for (const call of calls) {
        await expect(call()).rejects.toMatchObject({
          code: "conflict",
          message: expect.stringContaining(`is empty, but this node belongs to cluster ${clusterUID}`),
          hint: expect.stringContaining("store import"),
        });
      }
      expect(await contentsOf(plain)).toEqual({});
      await initCluster(plain, init);
      for (const call of calls) {
        await expect(call()).rejects.toThrow(
          new RegExp(`holds cluster .*, but this node belongs to cluster ${clusterUID}`),
        );
      }
      expect(await ownersIn(plain)).toEqual(new Map());
    },
  );

  rule(
    "a node on an emptied store is unsure until the data is back, and then owns what it had (G8)",
    async (bench, expect) => {
      const it = await onChangingServer(bench);
      const { store, plain, server } = it;
      const early = await register(it, "a");
      const { entries } = await listAll(plain, "");
      const late = await register(it, "b");
      const said: string[] = [];
      const problems: unknown[] = [];
      const stop = new AbortController();
      const beats = [early, late].map((registration) =>
        heartbeat(store, registration, {
          ttlMs: lastingTtlMs,
          signal: stop.signal,
          onOwned: () => void said.push(`${registration.node} owned`),
          onUnsure: () => void said.push(`${registration.node} unsure`),
          onProblem: (error) => void problems.push(error),
        }),
      );
      try {
        await until("both to be sure", patienceMs, () => said.length === 2);
        await clear(plain);
        server.name = "2";
        await until("both to be unsure", patienceMs, () => said.length === 4 && problems.length === 2);
        expect(said.slice(2).sort()).toEqual(["a unsure", "b unsure"]);
        expect(problems).toEqual(Array(2).fill(expect.objectContaining({ code: "conflict" })));
        await importInto(plain, entries);
        await until("both to be sure again", patienceMs, () => said.length === 6);
        expect(said.slice(4).sort()).toEqual(["a owned", "b owned"]);
        expect(await ownersIn(plain)).toEqual(
          new Map([early, late].map(({ node, subnet }) => [node, subnet])),
        );
        it.clock.run();
        expect((await register(it, "c")).subnet).toBe("10.64.2.0/24");
      } finally {
        stop.abort();
        await Promise.all(beats);
      }
    },
  );
}

async function clear(store: Store): Promise<void> {
  const { entries } = await listAll(store, "");
  await store.txn({ then: entries.map(({ key }) => ({ delete: key })) });
}

/** What `store import` does with a file. */
async function importInto(store: Store, entries: Parameters<CopyTarget["reconcile"]>[0]): Promise<void> {
  const config = entries.find(({ key }) => key === keys.config)?.value ?? "";
  const target = await CopyTarget.open(store, { label: "a file", config: JSON.parse(config) as RawConfig });
  await target.reconcile(entries);
  await target.commission();
}
