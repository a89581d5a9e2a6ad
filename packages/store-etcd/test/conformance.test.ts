import { openEtcdStore } from "@cocoon-net/store-etcd";
import {
  type FaultProxy,
  type OpenOptions,
  startEtcd,
  startFaultProxy,
  storeConformance,
  type TestServer,
} from "@cocoon-net/store-testkit";
import { afterAll, beforeAll } from "vitest";
import { compact } from "./etcdctl.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startEtcd();
});
afterAll(() => server[Symbol.asyncDispose]());

const urlOf = ({ prefix, via }: OpenOptions<FaultProxy>) =>
  `etcd://127.0.0.1:${(via ?? server).port}${prefix}`;

storeConformance({
  name: "store-etcd",
  // Many open it at once.
  open: (options) => openEtcdStore(urlOf(options), { timeoutMs: 30_000 }),
  faults: () => startFaultProxy({ target: server }),
  forgetHistory: () => compact(server),
  server: () => server,
  driver: { module: new URL("../src/driver.ts", import.meta.url).href, url: urlOf },
});
