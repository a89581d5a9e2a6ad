import { openRedisStore } from "@cocoon-net/store-redis";
import {
  type FaultProxy,
  type OpenOptions,
  startFaultProxy,
  startRedis,
  storeConformance,
  type TestServer,
} from "@cocoon-net/store-testkit";
import { Redis } from "ioredis";
import { afterAll, beforeAll } from "vitest";

let server: TestServer;

beforeAll(async () => {
  server = await startRedis({ appendonly: true });
});

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

const urlOf = ({ prefix, via }: OpenOptions<FaultProxy>): string =>
  `redis://127.0.0.1:${(via ?? server).port}${prefix}`;

storeConformance({
  name: "store-redis",
  open: (options) => openRedisStore(urlOf(options)),
  faults: () => startFaultProxy({ target: server }),
  server: () => server,
  driver: { module: new URL("../src/driver.ts", import.meta.url).href, url: urlOf },
  forgetHistory: async () => {
    const redis = new Redis({ host: server.host, port: server.port });
    try {
      for (const stream of await redis.keys("*#changes")) await redis.xtrim(stream, "MAXLEN", 1);
    } finally {
      redis.disconnect();
    }
  },
});
