import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, startFaultProxy, type TestServer } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll } from "vitest";
import { clusterRules } from "./cluster-rules.ts";

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
    open: ({ prefix, via }) => openEtcdStore(url(prefix, via)),
    faults: () => startFaultProxy({ target: server }),
  },
  { url },
);
