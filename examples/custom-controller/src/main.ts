import { hostname } from "node:os";
import { volcengineDriver } from "@cocoon-net/cloud-volcengine";
import { describeError } from "@cocoon-net/core";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { createZoneController } from "./zone-controller.ts";

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());

async function run(): Promise<void> {
  const { COCOON_NET_STORE: url = "etcd://127.0.0.1:2379" } = process.env;
  await using store = await openEtcdStore(url);
  await using cloud = volcengineDriver.open("volcengine");
  await using controller = createZoneController({
    store,
    cloudFor: () => cloud,
    id: `${hostname()}-${process.pid}`,
    // Spot machines come and go, and are fenced when they are silent; in the lab people look first.
    zones: { "cn-beijing-b": "fence", "cn-beijing-lab": "manual" },
    onEvent: ({ time, type, reason = "", message }) => console.log(time, type, reason, message),
  });
  await controller.run({ signal: stop.signal });
}

try {
  await run();
} catch (error) {
  console.error(`zone controller: ${describeError(error)}`);
  process.exitCode = 1;
}
