import { hostname } from "node:os";
import { volcengineDriver } from "@cocoon-net/cloud-volcengine";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { createZoneController } from "./zone-controller.ts";

const url = process.env.COCOON_NET_STORE;
if (url === undefined)
  throw new Error("COCOON_NET_STORE is not set; it is the store's URL, as for `cocoon-net`");

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());

await using store = await openEtcdStore(url);
await using cloud = volcengineDriver.open("volcengine");
await using controller = createZoneController({
  store,
  cloudFor: () => cloud,
  id: `${hostname()}-${process.pid}`,
  // Spot machines come and go, and are fenced when they are silent; in the lab people look first.
  zones: { "cn-beijing-b": "fence", "cn-beijing-lab": "manual" },
});

const events = (async () => {
  for await (const { time, type, reason = "", message } of controller.events()) {
    console.log(time, type, reason, message);
  }
})();
await controller.run({ signal: stop.signal });
await controller[Symbol.asyncDispose]();
await events;
