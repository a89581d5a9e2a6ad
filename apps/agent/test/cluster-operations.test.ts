import { initCluster, keys, type Registration, Registry, type Store } from "@cocoon-net/core";
import { startRedis, type TestServer } from "@cocoon-net/store-testkit/servers";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { openStore } from "../src/drivers.ts";
import { until } from "./support/command.ts";
import { type Outcome, runCommand } from "./support/run-command.ts";

let server: TestServer;
let store: Store;
let url: string;
let turn = 0;
let node: Registration;

beforeAll(async () => {
  server = await startRedis({ appendonly: true });
});
beforeEach(async () => {
  url = `redis://127.0.0.1:${server.port}/operations-${turn++}`;
  await store?.[Symbol.asyncDispose]();
  store = await openStore(url);
  await initCluster(store, { parentCIDR: "10.0.0.0/16", platform: "volcengine" });
  node = await new Registry(store).register({ node: "n1", uid: "i-1", instanceID: "i-1", agentVersion: "1" });
});
afterAll(async () => {
  await store?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const run = (args: readonly string[], ask?: (question: string) => Promise<string>): Promise<Outcome> =>
  runCommand(["cluster", ...args, "--store", url], ask ? { ask } : {});
const record = async (): Promise<{ status: string }> => {
  const { entry } = await store.get(keys.node("n1"));
  return JSON.parse(entry?.value ?? "{}") as { status: string };
};

it("pauses what frees, with a reason, and lets it go on", async () => {
  expect((await run(["pause"])).failure).toMatch(/--reason/);
  expect((await run(["pause", "--reason", "power test"])).failure).toBeUndefined();
  expect((await store.get(keys.pause)).entry?.value).toContain("power test");
  expect((await run(["resume"])).out).toEqual(["what frees goes on"]);
  expect((await store.get(keys.pause)).entry).toBeUndefined();
  expect((await run(["resume"])).out).toEqual(["nothing was paused"]);
});

it("lets a node leave, and stay after all", async () => {
  expect((await run(["drain", "n2"])).failure).toMatch(/^node n2 owns no subnet in /);
  const { out, said } = await run(["drain", "n1"]);
  expect([out, said]).toEqual([
    ["n1 grants nothing new, and leaves with its last guest"],
    [
      "`cocoon-net cluster events --node n1 --watch` shows how far it is",
      "warning: no controller leads now, and this waits for one; `cocoon-net controller` starts it",
    ],
  ]);
  expect((await record()).status).toBe("draining");
  expect((await run(["drain", "n1", "--cancel"])).out).toEqual(["n1 stays, and grants again"]);
  expect((await record()).status).toBe("ready");
});

it("takes the block of a silent node; by force only when its name is typed", async () => {
  const session = await store.session(30_000);
  await node.announce(session);
  expect((await run(["reclaim", "n1"])).failure).toMatch(/^node n1 is alive/);
  await session[Symbol.asyncDispose]();
  expect((await run(["reclaim", "n1"])).failure).toMatch(/^node n1 is not suspect yet/);
  expect((await run(["reclaim", "n1", "--force"])).failure).toMatch(
    /--force asks for the node's name.*--confirm n1/,
  );
  expect((await run(["reclaim", "n1", "--force"], async () => "n2")).failure).toMatch(/^that is not "n1"/);
  expect((await run(["reclaim", "n1", "--force", "--confirm", "n"])).failure).toMatch(/^that is not "n1"/);
  expect((await record()).status).toBe("ready");
  const { out, said, failure } = await run(["reclaim", "n1", "--force"], async () => "n1\n");
  expect(failure).toBeUndefined();
  expect(out).toEqual([
    "taking 10.0.0.0/24 from n1",
    expect.stringMatching(/^should no fence succeed, it is free at \d{4}-.* at the soonest$/),
  ]);
  expect(said.join("\n")).toMatch(/what nobody can exclude then: n1 may still run/);
  expect((await record()).status).toBe("fencing");
});

it("finds what contradicts itself, shows what would mend it, and mends what two checks agree on", {
  timeout: 180_000,
}, async () => {
  expect((await run(["check", "--no-cloud"])).failure).toBeUndefined();
  await store.txn({
    then: [{ put: keys.slot("10.0.9.0/24"), value: JSON.stringify({ node: "ghost", uid: "i-9" }) }],
  });
  const found = await run(["check", "--no-cloud", "-o", "json"]);
  expect(found.failure).toMatch(/^1 finding$/);
  expect(JSON.parse(found.out.join("\n"))).toMatchObject({
    findings: [
      { code: "slot-without-owner", guarantee: "G1", subject: expect.stringContaining("10.0.9.0/24") },
    ],
  });
  const { out } = await run(["check", "--no-cloud"]);
  expect(out.join("\n")).toMatch(/^G1 .*10\.0\.9\.0\/24.*\n +means: .*\n +→ .*`cluster repair` can/);

  const quick = ["repair", "--no-cloud", "--between", "50ms"];
  expect((await run([...quick, "--dry-run"])).out).toEqual([
    expect.stringMatching(/^repair .*10\.0\.9\.0\/24/),
  ]);
  expect((await run(quick)).failure).toMatch(/nobody is there to confirm.*--yes/);
  expect((await run(quick, async () => "n")).failure).toMatch(/^not confirmed/);
  expect((await store.get(keys.slot("10.0.9.0/24"))).entry).toBeDefined();

  const stop = new AbortController();
  const leading = runCommand(["controller", "--store", url, "--leader-ttl", "60s"], {
    ...{ signal: stop.signal, env: { ...process.env, COCOON_NET_LOG_LEVEL: "silent" } },
  });
  const { out: done, failure } = await run([...quick, "--yes"]);
  stop.abort();
  await leading;
  expect(failure).toBeUndefined();
  expect(done.at(-1)).toBe("repaired 1, left 0 that had changed meanwhile");
  expect((await store.get(keys.slot("10.0.9.0/24"))).entry).toBeUndefined();
  expect((await run(["check", "--no-cloud"])).failure).toBeUndefined();
  expect((await run(quick)).out).toEqual(["nothing is to be repaired"]);
});

it("moves a guest's address, and says what becomes of it", async () => {
  await new Registry(store).register({ node: "n2", uid: "i-2", instanceID: "i-2", agentVersion: "1" });
  const [ip, mac] = ["10.0.0.9", "52:54:00:00:00:09"];
  const expiry = "2030-01-01T00:00:00.000Z";
  await node.mirror([[ip, { node: "n1", mac, vmID: "vm-9", seq: 1, expiry }]]);
  expect((await run(["migrate", "--ip", ip])).failure).toMatch(/^--to is missing/);
  expect((await run(["migrate", "--to", "n2"])).failure).toMatch(/^name the guest by --ip or by --vm/);
  expect((await run(["migrate", "--ip", "nonsense", "--to", "n2"])).failure).toMatch(/--ip/);
  expect((await run(["migrate", "--vm", "vm-8", "--to", "n2"])).failure).toMatch(
    /^no guest on record is VM vm-8/,
  );
  expect((await run(["migrate", "--ip", ip, "--to", "n2"])).failure).toMatch(/^node n1 is silent/);
  const sessions = [await store.session(30_000), await store.session(30_000)];
  for (const [index, name] of ["n1", "n2"].entries()) {
    const session = sessions[index];
    if (session) await store.txn({ then: [{ put: keys.alive(name), value: "{}", session }] });
  }
  expect((await run(["migrate", "--ip", ip, "--to", "n1"])).failure).toMatch(/^10\.0\.0\.9 is at n1 already/);
  const { out } = await run(["migrate", "--vm", "vm-9", "--to", "n2"]);
  expect(out).toEqual(["10.0.0.9 is to move from n1 to n2"]);
  expect((await run(["migrate", "--ip", ip, "--to", "n2"])).failure).toMatch(/is being moved to n2 already/);
  expect((await run(["migrate", "--cancel"])).failure).toMatch(/^--cancel needs --ip/);
  expect((await run(["migrate", "--cancel", "--ip", ip])).out).toEqual(["10.0.0.9 stays where it is"]);
  await store.txn({ then: [{ delete: keys.moved(ip) }] });

  // What a leader writes, so that the command's waiting ends.
  for (const [type, message] of [
    ["move-aborted", "10.0.0.9 was not moved to n2: no room"],
    ["move-finished", "n2 serves 10.0.0.9; n1 had it"],
  ] as const) {
    const waiting = run(["migrate", "--ip", ip, "--to", "n2", "--wait"]);
    const { intent } = await until("the request", async () => {
      const { entry } = await store.get(keys.moved(ip));
      return entry && (JSON.parse(entry.value) as { move: { intent: string } }).move;
    });
    await store.txn({ then: [{ delete: keys.moved(ip) }] });
    const value = JSON.stringify({ time: expiry, type, ip, intent, message });
    await store.txn({ then: [{ put: keys.event(`9999999999999999-${type}`), value }] });
    const { out: said, failure } = await waiting;
    if (type === "move-finished") expect(said.at(-1)).toBe(message);
    else expect(failure).toMatch(/^10\.0\.0\.9 did not move to n2: .*no room.*it is n1's/);
  }
  for (const session of sessions) await session[Symbol.asyncDispose]();
});

it("the controller waits for a store that is away, and leads when it is there", {
  timeout: 180_000,
}, async () => {
  await server.stop();
  const stop = new AbortController();
  const leading = runCommand(["controller", "--store", url, "--leader-ttl", "60s"], {
    ...{ signal: stop.signal, env: { ...process.env, COCOON_NET_LOG_LEVEL: "silent" } },
  });
  // Away for longer than one try takes.
  await expect(openStore(url)).rejects.toThrow(/127\.0\.0\.1/);
  await server.start();
  await expect.poll(async () => (await store.get(keys.leader)).entry, { timeout: 60_000 }).toBeDefined();
  stop.abort();
  expect((await leading).failure).toBeUndefined();

  // One that is told to stop while it waits ends well; a URL that cannot work ends it at once.
  await server.stop();
  const waiting = new AbortController();
  const ended = runCommand(["controller", "--store", url], {
    ...{ signal: waiting.signal, env: { ...process.env, COCOON_NET_LOG_LEVEL: "silent" } },
  });
  await expect(openStore(url)).rejects.toThrow(/127\.0\.0\.1/);
  waiting.abort();
  expect((await ended).failure).toBeUndefined();
  await server.start();
  expect((await runCommand(["controller", "--store", `${url}?nope=1`])).failure).toMatch(/nope/);
});
