import { type TestServer, until } from "@cocoon-net/store-testkit";
import { Redis } from "ioredis";

/**
 * Resolves when so many replicas confirm a write. One that is online may still stand still for a second: it begins its
 * append-only file anew after a synchronisation.
 */
export async function replicasConfirm({ host, port }: TestServer, count: number, key: string): Promise<void> {
  await until(`${count} replicas to confirm a write`, 30_000, async () => {
    const redis = new Redis({ host, port, maxRetriesPerRequest: 0 });
    redis.on("error", () => undefined);
    try {
      await redis.set(key, "1");
      await redis.del(key);
      return (await redis.wait(count, 400)) >= count;
    } finally {
      redis.disconnect();
    }
  });
}
