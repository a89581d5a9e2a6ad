import gke from "@cocoon-net/cloud-gke";
import { GceSimulator, RecordedJob } from "@cocoon-net/cloud-testkit";
import { createController } from "@cocoon-net/controller";
import {
  acknowledgeMove,
  initCluster,
  keys,
  listAll,
  prefixes,
  type Registration,
  Registry,
} from "@cocoon-net/core";
import { startRedis } from "@cocoon-net/store-testkit/servers";
import { expect, it } from "vitest";
import { openStore } from "../src/drivers.ts";
import { until } from "./support/command.ts";
import { runCommand } from "./support/run-command.ts";

it("at the limit of alias ranges per NIC a move is refused, says why, and leaves everything as it was", async () => {
  await using server = await startRedis({ appendonly: true });
  const url = `redis://127.0.0.1:${server.port}/limit`;
  await using store = await openStore(url);
  await initCluster(store, { parentCIDR: "172.20.0.0/16", platform: "gke" });
  await using simulator = new GceSimulator({
    secondaryRanges: { "cocoon-pods": "172.20.0.0/16" },
    delays: { pendingMs: 1, operationMs: 3, instanceMs: 4 },
    limits: { aliasRangesPerNic: 4 },
  });
  const { api } = await simulator.listen({ api: { host: "127.0.0.1", port: 0 } });
  const aliases = (): string[] =>
    simulator
      .describeState()
      .instances.flatMap(({ name, nic }) => nic.aliases.map(({ cidr }) => `${name} ${cidr}`));
  const nodes: Registration[] = [];
  let env = {};
  for (const name of ["n1", "n2"]) {
    const made = simulator.addInstance({ name });
    const { metadata } = await simulator.listen({
      metadata: { host: "127.0.0.1", port: 0, instance: made.id },
    });
    env = { COCOON_NET_GCE_ENDPOINT: api, COCOON_NET_METADATA_ENDPOINT: metadata, HOME: "/nonexistent" };
    await using cloud = gke.open("gke", { env });
    const instance = await cloud.describeSelf();
    const { instanceID, zone, region, network } = instance;
    const about = { instanceID, zone, platform: "gke", agentVersion: "1" };
    const registration = await new Registry(store).register({ node: name, uid: instanceID, ...about });
    const { subnet } = registration;
    await cloud.provision({ node: name, instance, subnet, poolSize: 25, tags: {} }, new RecordedJob(name));
    await registration.update({ zone, region, network });
    await registration.announce(await store.session(60_000));
    nodes.push(registration);
  }
  const before = aliases();
  const [ip, mac] = ["172.20.0.77", "52:54:00:00:00:4d"];
  await nodes[0]?.mirror([[ip, { node: "n1", mac, seq: 1, expiry: "2040-01-01T00:00:00.000Z" }]]);

  await using cloud = gke.open("gke", { env });
  await using controller = createController({ store, id: "c", cloudFor: () => cloud, tickMs: 50 });
  const stop = new AbortController();
  const running = controller.run({ signal: stop.signal });
  const moving = runCommand(["cluster", "migrate", "--ip", ip, "--to", "n2", "--wait", "--store", url]);
  // What the agents of both nodes say.
  await until("the request", async () => {
    const [entry] = (await listAll(store, prefixes.moved)).entries;
    return entry !== undefined && (await acknowledgeMove(store, nodes[0] as Registration, entry));
  });
  await until("the other", async () => {
    const [entry] = (await listAll(store, prefixes.moved)).entries;
    return entry !== undefined && (await acknowledgeMove(store, nodes[1] as Registration, entry));
  });
  expect((await moving).failure).toMatch(
    /^172\.20\.0\.77 did not move to n2: .*Exceeded limit 'ALIAS_IP_RANGES_PER_NETWORK_INTERFACE'.*Limit: 4/,
  );
  stop.abort();
  await running;
  expect(aliases()).toEqual(before);
  expect((await store.get(keys.moved(ip))).entry).toBeUndefined();
  expect((await store.get(keys.pool(ip))).entry?.value).toContain('"node":"n1"');
}, 180_000);
