import { execFile, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Store, UnavailableError } from "@cocoon-net/core";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, type TestServer, until } from "@cocoon-net/store-testkit";
import { describe, it } from "vitest";
import { WatchRecord } from "./watch-record.ts";

/** From now until a write is answered, and until the watch has told of it, in milliseconds. */
async function recovery(
  store: Store,
  watch: WatchRecord,
  value: string,
): Promise<{ writes: number; watch: number }> {
  const start = performance.now();
  await until("a write", 20_000, async () => (await store.txn({ then: [{ put: "k/n", value }] })).succeeded);
  const writes = performance.now() - start;
  await watch.until("its change", 20_000, ({ changes }) => changes.at(-1) === `k/n=${value}`);
  return { writes: Math.round(writes), watch: Math.round(performance.now() - start) };
}

/** Uses the store while it is out of reach, as an agent does. */
async function outage(store: Store, ms: number): Promise<void> {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    await store.get("k/n").catch((error: unknown) => {
      if (!(error instanceof UnavailableError)) throw error;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

describe.concurrent("recovery from outages", () => {
  for (const [how, away, back] of [
    ["SIGCONT", (server: TestServer) => server.pause(), (server: TestServer) => server.resume()],
    ["a restart", (server: TestServer) => server.stop("SIGKILL"), (server: TestServer) => server.start()],
  ] as const) {
    it(`after ${how} writes and watches go on at once`, async ({ expect }) => {
      await using server = await startEtcd();
      await using store = await openEtcdStore(`etcd://127.0.0.1:${server.port}`);
      await using watch = new WatchRecord(store, "k/");
      await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
      for (const ms of [1_000, 8_000]) {
        await away(server);
        await outage(store, ms);
        await back(server);
        const measured = await recovery(store, watch, `${ms}`);
        console.log(`${how} after ${ms} ms: writes ${measured.writes} ms, watch ${measured.watch} ms`);
        // Some 200 ms where nothing else is going on.
        expect(measured.writes).toBeLessThan(5_000);
        expect(measured.watch).toBeLessThan(8_000);
      }
      expect(watch.snapshots).toBe(1);
    });
  }

  it("a silent black hole makes no storm of connections, and ends with it", async ({ expect }) => {
    const namespace = `etcd-${randomBytes(4).toString("hex")}`;
    execFileSync("ip", ["netns", "add", namespace]);
    try {
      execFileSync("ip", ["netns", "exec", namespace, "ip", "link", "set", "lo", "up"]);
      const program = fileURLToPath(new URL("black-hole-program.ts", import.meta.url));
      const { stdout } = await promisify(execFile)(
        "ip",
        ["netns", "exec", namespace, process.execPath, "--conditions=@cocoon-net/source", program, "12000"],
        { timeout: 110_000 },
      );
      console.log(`black hole of 12 s: ${stdout.trim()}`);
      const measured = JSON.parse(stdout) as Record<string, number>;
      expect(measured.missed).toBe(0);
      expect(measured.attemptsPerSecond).toBeLessThan(1);
      expect(measured.writesMs).toBeLessThan(9_000);
      expect(measured.watchMs).toBeLessThan(9_000);
      expect(measured.sessionMs).toBeLessThan(9_000);
    } finally {
      execFileSync("ip", ["netns", "delete", namespace]);
    }
  }, 120_000);
});
