import { RecordedJob, VolcengineSimulator } from "@cocoon-net/cloud-testkit";
import { volcengineDriver } from "@cocoon-net/cloud-volcengine";
import { readEvents } from "@cocoon-net/controller";
import { initCluster, Registry } from "@cocoon-net/core";
import { openMemoryStore } from "@cocoon-net/store-memory";
import { expect, test } from "vitest";
import { createZoneController } from "../src/zone-controller.ts";

test("a silent node is fenced in one zone, and left to people in another", {
  timeout: 120_000,
}, async () => {
  await using store = openMemoryStore();
  await using simulator = new VolcengineSimulator();
  const { api } = await simulator.listen({ api: { host: "127.0.0.1", port: 0 } });
  await using cloud = volcengineDriver.open("volcengine", {
    env: {
      COCOON_NET_VOLCENGINE_ENDPOINT: api,
      VOLCENGINE_ACCESS_KEY_ID: "AKTEST",
      VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST",
      VOLCENGINE_REGION: simulator.region,
    },
  });
  await initCluster(store, {
    parentCIDR: "172.20.0.0/16",
    platform: "volcengine",
    reclaimAfterMs: 100,
    quarantineMs: 100,
  });
  // Two nodes whose machines run, and that say nothing.
  for (const [node, zone] of [
    ["n1", "spot"],
    ["n2", "lab"],
  ] as const) {
    const { instanceID } = simulator.addInstance();
    const about = { node, uid: instanceID, instanceID, platform: "volcengine", zone, agentVersion: "1.0.0" };
    const registration = await new Registry(store).register(about);
    const instance = { instanceID, zone: simulator.zone, region: simulator.region, network: simulator.vpcID };
    const { eniIDs, subnetID } = await cloud.provision(
      { node, instance, subnet: registration.subnet, poolSize: 10, tags: { "cocoon-net:cluster": "c1" } },
      new RecordedJob(`provision-${instanceID}`),
    );
    await registration.update({ eniIDs, ...(subnetID === undefined ? {} : { subnetID }) });
  }

  await using controller = createZoneController({
    store,
    cloudFor: () => cloud,
    id: "test",
    zones: { spot: "fence", lab: "manual" },
    firstHeardWithinMs: 0,
    suspectAfterMs: 50,
    confirmAfterMs: 50,
    retryFirstMs: 100,
    tickMs: 50,
  });
  const told = controller.events();
  const running = controller.run();
  const wanted = new Set(["n1 subnet-freed", "n2 reclaim-manual"]);
  for await (const { node, type } of told) {
    wanted.delete(`${node} ${type}`);
    if (wanted.size === 0) break;
  }
  await controller[Symbol.asyncDispose]();
  await running;

  const started = [];
  for await (const event of readEvents(store)) if (event.type === "reclaim-started") started.push(event);
  expect(started).toMatchObject([{ node: "n1", reason: "fence-policy" }]);
  expect((await store.get("subnets/n2")).entry?.value).toBe('"172.20.1.0/24"');
});
