import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { BuiltinLeaseBook } from "../src/builtin-lease-book.ts";
import { createLogger } from "../src/log.ts";
import { StateDirectory } from "../src/state-directory.ts";

// Catalogue 17. Guard: apps/agent/src/builtin-lease-book.ts, BuiltinLeaseBook.setAside: only what nobody has leaves
// the pool.
it("an address that a guest has is not set aside, however many are asked for", async () => {
  const directory = await mkdtemp(join(tmpdir(), "cocoon-net-set-aside-"));
  try {
    const ips = ["10.7.0.2", "10.7.0.3", "10.7.0.4"];
    const pool = { platform: "test", nodeName: "n1", subnet: "10.7.0.0/24", gateway: "10.7.0.1", ips };
    const none = async (): Promise<void> => {};
    await using book = await BuiltinLeaseBook.start(
      {
        pool: { ...pool, updatedAt: "2026-01-01T00:00:00Z" },
        state: new StateDirectory(directory),
        leaseFile: join(directory, "leases.json"),
        granting: "open",
        network: { listRoutes: async () => [], addRoute: none, removeRoute: none, setNeighbour: none },
        openSocket: async () => ({ send() {}, onPacket() {}, close() {} }),
        log: createLogger({ COCOON_NET_LOG_LEVEL: "silent" }),
      },
      AbortSignal.timeout(60_000),
    );
    const expiry = new Date(Date.now() + 3_600_000).toISOString();
    const lease = { node: "n1", mac: "02:00:00:00:00:01", expiry, seq: 1 };
    await book.adopt(new Map([["10.7.0.3", lease]]));
    expect(book.setAside(3)).toEqual(["10.7.0.2", "10.7.0.4"]);
    expect(book.use()).toEqual({ size: 1, leased: 1, free: 0 });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
