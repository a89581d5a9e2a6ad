import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BuiltinLeaseBook } from "../../src/builtin-lease-book.ts";
import { createLogger } from "../../src/log.ts";
import { StateDirectory } from "../../src/state-directory.ts";

/** The book of a node with 10.7.0.2 to 10.7.0.4, on a directory of its own, without a socket and without a kernel. */
export async function withBook(
  work: (book: BuiltinLeaseBook) => Promise<void>,
  addRoute: (ip: string) => Promise<void> = async () => {},
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "cocoon-net-book-"));
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
        network: { listRoutes: async () => [], addRoute, removeRoute: none, setNeighbour: none },
        openSocket: async () => ({ send() {}, onPacket() {}, close() {} }),
        log: createLogger({ COCOON_NET_LOG_LEVEL: "silent" }),
      },
      AbortSignal.timeout(60_000),
    );
    await work(book);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** What the store has of a guest. */
export function storedLease(mac: string) {
  return { node: "n1", mac, expiry: new Date(Date.now() + 3_600_000).toISOString(), seq: 1 };
}
