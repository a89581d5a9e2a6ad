import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, startFaultProxy, type TestServer } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll } from "vitest";
import { clusterRules } from "./cluster-rules.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startEtcd();
});
afterAll(() => server[Symbol.asyncDispose]());

const url = (prefix: string): string => `etcd://127.0.0.1:${server.port}${prefix}`;

clusterRules(
  {
    name: "etcd",
    open: ({ prefix }) => openEtcdStore(url(prefix)),
    async openFaulty({ prefix }) {
      const faults = await startFaultProxy({ target: server });
      return { faults, store: await openEtcdStore(`etcd://127.0.0.1:${faults.port}${prefix}`) };
    },
  },
  { url },
);
