import { openRedisStore } from "@cocoon-net/store-redis";
import { startFaultProxy, startRedis, type TestServer } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll } from "vitest";
import { clusterRules } from "./cluster-rules.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server[Symbol.asyncDispose]());

const url = (prefix: string, via: { readonly port: number } = server): string =>
  `redis://127.0.0.1:${via.port}${prefix}`;

clusterRules(
  {
    name: "redis",
    open: ({ prefix, via }) => openRedisStore(url(prefix, via)),
    faults: () => startFaultProxy({ target: server }),
  },
  { url },
);
