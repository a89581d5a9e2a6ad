import { openRedisStore } from "@cocoon-net/store-redis";
import { startFaultProxy, startRedis, type TestServer, until } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll } from "vitest";
import { clusterRules } from "./cluster-rules.ts";
import { patient } from "./intercepted-store.ts";
import { patienceMs } from "./rule.ts";

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
    open: async ({ prefix, via }) => {
      const store = await until("the store to open", patienceMs, () => openRedisStore(url(prefix, via)));
      return via ? store : patient(store);
    },
    faults: () => startFaultProxy({ target: server }),
  },
  { url },
);
