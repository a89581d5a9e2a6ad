import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, startFaultProxy, storeConformance, type TestServer } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll } from "vitest";

let server: TestServer;
beforeAll(async () => {
  server = await startEtcd();
});
afterAll(() => server[Symbol.asyncDispose]());

storeConformance({
  name: "etcd",
  open: ({ prefix }) => openEtcdStore(`etcd://127.0.0.1:${server.port}${prefix}`),
  async openFaulty({ prefix }) {
    const faults = await startFaultProxy({ target: server });
    const store = await openEtcdStore(`etcd://127.0.0.1:${faults.port}${prefix}`);
    return { store, faults };
  },
  async forgetHistory() {
    const { stdout } = await promisify(execFile)(
      "etcdctl",
      [`--endpoints=127.0.0.1:${server.port}`, "endpoint", "status", "--write-out=json"],
      { env: { ...process.env, ETCDCTL_API: "3" } },
    );
    const revision = /"revision":(\d+)/.exec(stdout)?.[1] ?? "";
    await promisify(execFile)("etcdctl", [`--endpoints=127.0.0.1:${server.port}`, "compact", revision], {
      env: { ...process.env, ETCDCTL_API: "3" },
    });
  },
});
