import { openRedisStore } from "@cocoon-net/store-redis";
import { startFaultProxy, startRedis, type TestServer } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll } from "vitest";
import { clusterRules } from "./cluster-rules.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server[Symbol.asyncDispose]());

const url = (prefix: string): string => `redis://127.0.0.1:${server.port}${prefix}`;

clusterRules(
  {
    name: "redis",
    open: ({ prefix }) => openRedisStore(url(prefix)),
    async openFaulty({ prefix }) {
      const faults = await startFaultProxy({ target: server });
      return { faults, store: await openRedisStore(`redis://127.0.0.1:${faults.port}${prefix}`) };
    },
  },
  { url },
);
