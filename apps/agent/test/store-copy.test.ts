import {
  CopyTarget,
  CorruptError,
  copyCluster,
  initCluster,
  keys,
  listAll,
  type Operation,
  Registry,
  readCluster,
  type Store,
  UnavailableError,
} from "@cocoon-net/core";
import { MemoryDatabase, openMemoryStore } from "@cocoon-net/store-memory";
import { describe, expect, it } from "vitest";

/** The store with one of its methods replaced. */
function changed(store: Store, changes: Partial<Store>): Store {
  const whole = Object.create(store) as Store;
  for (const name of ["get", "list", "txn", "watch", "session", "incarnation"] as const) {
    Object.defineProperty(whole, name, { value: changes[name] ?? store[name].bind(store) });
  }
  for (const name of ["label", "capabilities"] as const) {
    Object.defineProperty(whole, name, { value: store[name] });
  }
  return whole;
}

/** Applies its `at`-th transaction, or does not, and loses the answer either way. */
function losing(store: Store, at: number, applied: boolean): Store {
  let count = 0;
  return changed(store, {
    async txn(...request) {
      const lost = ++count === at;
      const result = lost && !applied ? undefined : await store.txn(...request);
      if (result && !lost) return result;
      throw new UnavailableError("the answer was lost", { outcome: "unknown" });
    },
  });
}

async function cluster(): Promise<{ readonly source: Store; readonly target: Store }> {
  const source = openMemoryStore({ database: new MemoryDatabase() });
  await initCluster(source, { parentCIDR: "10.0.0.0/16", platform: "x" });
  for (const node of ["n1", "n2", "n3"]) {
    await new Registry(source).register({ node, uid: `i-${node}`, agentVersion: "1" });
  }
  const puts = Array.from({ length: 300 }, (_, at): Operation => ({ put: `pool/${at}`, value: `${at}` }));
  for (let start = 0; start < puts.length; start += 100) {
    await source.txn({ then: puts.slice(start, start + 100) });
  }
  return { source, target: openMemoryStore({ database: new MemoryDatabase() }) };
}

async function contents(store: Store): Promise<string[]> {
  const copied = ({ key }: { readonly key: string }) => /^(pool|nodes|slots|subnets|events)\//.test(key);
  return (await listAll(store, "")).entries.filter(copied).map(({ key, value }) => `${key}=${value}`);
}

const usable = (store: Store): Promise<boolean> =>
  readCluster(store).then(
    () => true,
    () => false,
  );

describe("copyCluster", () => {
  const cases = ["source", "target"].flatMap((side) =>
    [true, false].flatMap((applied) => [1, 2, 3, 4, 5, 6, 7, 8].map((at) => ({ side, applied, at }))),
  );
  it.concurrent.each(cases)(
    "is whole although the $side loses answer $at (applied: $applied)",
    async ({ side, applied, at }) => {
      const { source, target } = await cluster();
      const before = await contents(source);
      const [from, to] =
        side === "source" ? [losing(source, at, applied), target] : [source, losing(target, at, applied)];
      await copyCluster(from, to, { verify: true }).catch(async (error: unknown) => {
        if (!(error instanceof UnavailableError)) throw error;
        // What had not begun is given up; it is run again.
        await copyCluster(source, target, { verify: true });
      });
      expect(await contents(target)).toEqual(before);
      expect([await usable(source), await usable(target)]).toEqual([false, true]);
    },
  );

  it("keeps the target closed when something was not written, and mends it when it is run again", async () => {
    const { source, target } = await cluster();
    const forgetful = changed(target, {
      txn: (request, options) =>
        target.txn(
          {
            ...request,
            then: (request.then ?? []).filter(
              (operation) => !("put" in operation && operation.put === "pool/7"),
            ),
          },
          options,
        ),
    });
    await expect(copyCluster(source, forgetful, { verify: true })).rejects.toThrow(
      /^1 records are not the same in both stores: pool\/7$/,
    );
    await expect(copyCluster(source, forgetful, { verify: true })).rejects.toThrow(CorruptError);
    expect([await usable(source), await usable(target)]).toEqual([false, false]);
    await copyCluster(source, target, { verify: true });
    expect(await usable(target)).toBe(true);
    expect(await contents(target)).toEqual(await contents(source));
  });

  it("of two that fill one store, only the newer goes on", async () => {
    const { source, target } = await cluster();
    const first = Promise.withResolvers<void>();
    const slow = changed(target, {
      async txn(request, options) {
        if (
          (request.then ?? []).some((operation) => "put" in operation && operation.put.startsWith("pool/"))
        ) {
          await first.promise;
        }
        return target.txn(request, options);
      },
    });
    const older = copyCluster(source, slow);
    await expect.poll(async () => (await target.get(keys.subnet("n1"))).entry).toBeDefined();
    await copyCluster(source, target, { verify: true });
    await target.txn({ then: [{ put: "pool/7", value: "newer" }] });
    first.resolve();
    await expect(older).rejects.toThrow(/another copy into .* has taken over/);
    expect((await target.get("pool/7")).entry?.value).toBe("newer");
    expect([await usable(source), await usable(target)]).toEqual([false, true]);
  });

  it("proves no node's ownership while it fills the store that the node still uses", async () => {
    const { source, target } = await cluster();
    const owned = await new Registry(source).register({ node: "n1", uid: "i-n1", agentVersion: "1" });
    await copyCluster(source, target);
    // What the source has become does not trouble a node that goes on there.
    await owned.confirm();
    const { entry } = await target.get(keys.config);
    const config = JSON.parse(entry?.value ?? "");
    const filling = await CopyTarget.open(source, { label: "elsewhere", config });
    await expect(owned.confirm()).rejects.toThrow(/is being filled from elsewhere and is not in use yet/);
    await filling.commission({ whole: true });
    await owned.confirm();
  });

  it("leaves a store that was recovering to recover in the new place, and a whole one whole", async () => {
    const { source, target } = await cluster();
    const other = openMemoryStore({ database: new MemoryDatabase() });
    const recovering = async (store: Store) => (await readCluster(store)).incarnation?.recovering;
    await copyCluster(source, target);
    expect(await recovering(target)).toBe(false);
    // As after a failover that nobody has noticed yet.
    await copyCluster(changed(target, { incarnation: async () => "another" }), other);
    expect(await recovering(other)).toBe(true);
    await copyCluster(other, target);
    expect(await recovering(target)).toBe(true);
  });

  it("takes what is written while it reads, also when the history it follows is forgotten", async () => {
    const database = new MemoryDatabase();
    const source = openMemoryStore({ database });
    await initCluster(source, { parentCIDR: "10.0.0.0/16", platform: "x" });
    await source.txn({
      then: [
        { put: "pool/1", value: "1" },
        { put: "pool/2", value: "2" },
      ],
    });
    const target = openMemoryStore({ database: new MemoryDatabase() });
    let written = false;
    const meddled = changed(target, {
      async txn(request, options) {
        const result = await target.txn(request, options);
        if (
          !written &&
          (request.then ?? []).some((operation) => "put" in operation && operation.put === "pool/1")
        ) {
          written = true;
          await source.txn({
            then: [{ put: "pool/1", value: "new" }, { delete: "pool/2" }, { put: "pool/3", value: "3" }],
          });
          await new Registry(source).register({ node: "late", uid: "i-late", agentVersion: "1" });
          database.compact();
        }
        return result;
      },
    });
    await copyCluster(source, meddled, { live: true, verify: true });
    expect(await contents(target)).toEqual(await contents(source));
    expect(await contents(target)).toContain("pool/1=new");
  });
});
