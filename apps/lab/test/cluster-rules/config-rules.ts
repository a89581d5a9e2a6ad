import { ConflictError, InvalidError, initCluster, keys, NotFoundError, readCluster } from "@cocoon-net/core";
import { loseAnswers } from "./intercepted-store.ts";
import type { Rule } from "./rule.ts";

const init = { parentCIDR: "10.64.0.0/16", platform: "test" };

export function configRules(rule: Rule): void {
  rule("a cluster is created once, and creating it again changes nothing", async (bench, expect) => {
    const store = await bench.open();
    const first = await initCluster(store, { ...init, reserved: ["10.64.0.0/24", "10.64.9.0/24"] });
    const again = await initCluster(store, { ...init, reserved: ["10.64.9.0/24", "10.64.0.0/24"] });
    expect(again).toMatchObject({ config: first.config, revision: first.revision });
    expect((await readCluster(await bench.open())).config).toEqual(first.config);
    expect(first.config).toMatchObject({ nodePrefix: 24, leaseMs: 86_400_000, quarantineMs: 600_000 });
  });

  rule("two that create it at once see one cluster", async (bench, expect) => {
    const views = await Promise.all(
      [await bench.open(), await bench.open(), await bench.open()].map((store) => initCluster(store, init)),
    );
    expect(new Set(views.map((view) => view.config.clusterUID)).size).toBe(1);
  });

  rule("creating it with other values is refused, and names the values", async (bench, expect) => {
    const store = await bench.open();
    await initCluster(store, { ...init, nodePrefix: 26 });
    const before = (await store.get(keys.config)).entry;
    for (const [other, message] of [
      [{ parentCIDR: "10.65.0.0/16" }, "parentCIDR 10.64.0.0/16, not 10.65.0.0/16"],
      [{ nodePrefix: 25 }, "nodePrefix 26, not 25"],
      [{ platform: "else" }, "platform test, not else"],
      [{ reserved: ["10.64.0.0/24"] }, "reserved none, not 10.64.0.0/24"],
      [{ leaseMs: 60_000 }, "leaseMs 86400000, not 60000"],
    ] as const) {
      const attempt = initCluster(store, { ...init, ...other });
      await expect(attempt).rejects.toThrow(ConflictError);
      await expect(attempt).rejects.toThrow(message);
    }
    expect((await store.get(keys.config)).entry).toEqual(before);
  });

  rule(
    "what the caller leaves open may be anything: a node with --parent-cidr joins it",
    async (bench, expect) => {
      const store = await bench.open();
      const { config } = await initCluster(store, { ...init, nodePrefix: 26, leaseMs: 60_000 });
      expect((await initCluster(store, init)).config).toEqual(config);
    },
  );

  rule("values that cannot work are refused before anything is written", async (bench, expect) => {
    const store = await bench.open();
    for (const bad of [
      { parentCIDR: "10.64.0.1/16" },
      { nodePrefix: 15 },
      { nodePrefix: 31 },
      { nodePrefix: 24.5 },
      { reserved: ["10.64.0.0"] },
      { leaseMs: 0 },
      { leaseMs: Number.NaN },
      { quarantineMs: -1 },
    ]) {
      await expect(initCluster(store, { ...init, ...bad }), JSON.stringify(bad)).rejects.toThrow(
        InvalidError,
      );
    }
    expect((await store.get(keys.config)).entry).toBeUndefined();
  });

  rule("where there is no cluster, the error says how to make one", async (bench, expect) => {
    const store = await bench.open();
    const attempt = readCluster(store);
    await expect(attempt).rejects.toThrow(NotFoundError);
    await expect(attempt).rejects.toMatchObject({ hint: expect.stringContaining("cluster init") });
  });

  rule("a lost answer is read back", async (bench, expect) => {
    const store = await bench.open();
    const view = await initCluster(loseAnswers(store, keys.config, "unknown"), init);
    expect((await readCluster(store)).config).toEqual(view.config);
  });

  rule("a write that did not happen is reported, and the next try works", async (bench, expect) => {
    const store = await bench.open();
    const lossy = loseAnswers(store, keys.config, "none");
    await expect(initCluster(lossy, init)).rejects.toMatchObject({ code: "unavailable", outcome: "none" });
    expect((await initCluster(lossy, init)).config.parentCIDR).toBe(init.parentCIDR);
  });
}
