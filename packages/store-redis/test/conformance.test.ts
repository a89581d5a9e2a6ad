import { openRedisStore } from "@cocoon-net/store-redis";
import { startFaultProxy, startRedis, storeConformance, type TestServer } from "@cocoon-net/store-testkit";
import { Redis } from "ioredis";
import { afterAll, beforeAll } from "vitest";

let server: TestServer;

beforeAll(async () => {
  server = await startRedis({ appendonly: true });
});

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

storeConformance({
  name: "store-redis",
  open: ({ prefix }) => openRedisStore(`redis://${server.host}:${server.port}${prefix}`),
  openFaulty: async ({ prefix }) => {
    const faults = await startFaultProxy({ target: server });
    return { faults, store: await openRedisStore(`redis://${faults.host}:${faults.port}${prefix}`) };
  },
  forgetHistory: async () => {
    const redis = new Redis({ host: server.host, port: server.port });
    try {
      for (const stream of await redis.keys("*#changes")) await redis.xtrim(stream, "MAXLEN", 1);
    } finally {
      redis.disconnect();
    }
  },
});
