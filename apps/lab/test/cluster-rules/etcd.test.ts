import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, startFaultProxy, type TestServer, until } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll } from "vitest";
import { clusterRules } from "./cluster-rules.ts";
import { patient } from "./intercepted-store.ts";
import { patienceMs } from "./rule.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startEtcd();
});
afterAll(() => server[Symbol.asyncDispose]());

const url = (prefix: string, via: { readonly port: number } = server): string =>
  `etcd://127.0.0.1:${via.port}${prefix}`;

clusterRules(
  {
    name: "etcd",
    open: async ({ prefix, via }) => {
      const store = await until("the store to open", patienceMs, () => openEtcdStore(url(prefix, via)));
      return via ? store : patient(store);
    },
    faults: () => startFaultProxy({ target: server }),
  },
  { url },
);
