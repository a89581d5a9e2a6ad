import { RecordedJob, VolcengineSimulator } from "@cocoon-net/cloud-testkit";
import { volcengineDriver } from "@cocoon-net/cloud-volcengine";
import { type ControllerEvent, createController } from "@cocoon-net/controller";
import {
  type Cloud,
  heartbeat,
  initCluster,
  listAll,
  type Registration,
  Registry,
  type Store,
} from "@cocoon-net/core";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, until } from "@cocoon-net/store-testkit";
import { expect, test } from "vitest";

/** A node's share of the work, as its agent does it: provisioned at the cloud, registered, and heard. */
class Node implements AsyncDisposable {
  readonly registration: Registration;
  readonly eniIDs: readonly string[];
  readonly #stop: AbortController;
  readonly #beat: Promise<void>;

  private constructor(store: Store, registration: Registration, eniIDs: readonly string[]) {
    this.registration = registration;
    this.eniIDs = eniIDs;
    this.#stop = new AbortController();
    const options = { ttlMs: 20_000, signal: this.#stop.signal, onOwned: () => {}, onUnsure: () => {} };
    this.#beat = heartbeat(store, registration, options);
  }

  static async join(store: Store, simulator: VolcengineSimulator, cloud: Cloud, name: string): Promise<Node> {
    const { instanceID } = simulator.addInstance();
    const registry = new Registry(store);
    const identity = {
      node: name,
      uid: instanceID,
      instanceID,
      platform: "volcengine",
      agentVersion: "1.0.0",
    };
    const registration = await registry.register(identity);
    const instance = { instanceID, zone: simulator.zone, region: simulator.region, network: simulator.vpcID };
    const network = await cloud.provision(
      {
        node: name,
        instance,
        subnet: registration.subnet,
        poolSize: 20,
        tags: { "cocoon-net:cluster": "c1" },
      },
      new RecordedJob(`provision-${instanceID}`),
    );
    await registration.update({
      eniIDs: network.eniIDs,
      pool: { size: 20, leased: 1, free: 19 },
      ...(network.subnetID === undefined ? {} : { subnetID: network.subnetID }),
    });
    return new Node(store, registration, network.eniIDs);
  }

  /** No heartbeat any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#beat;
  }
}

test("over a real etcd and the simulated cloud, a dead node's block goes to the next node, across a change of leaders", {
  timeout: 180_000,
}, async () => {
  await using etcd = await startEtcd();
  const url = `etcd://127.0.0.1:${etcd.port}/cocoon-net`;
  await using store = await openEtcdStore(url);
  await using storeA = await openEtcdStore(url);
  await using storeB = await openEtcdStore(url);
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
    reclaimAfterMs: 500,
    quarantineMs: 1_000,
  });
  await using dead = await Node.join(store, simulator, cloud, "n1");
  await using other = await Node.join(store, simulator, cloud, "n2");

  const events: ControllerEvent[] = [];
  const has = (type: ControllerEvent["type"]) => events.some((event) => event.type === type);
  const settings = {
    cloudFor: () => cloud,
    leaderTtlMs: 3_000,
    suspectAfterMs: 300,
    confirmAfterMs: 300,
    retryFirstMs: 100,
    retryMaxMs: 1_000,
    tickMs: 50,
  };
  const a = createController({
    ...settings,
    store: storeA,
    id: "a",
    onEvent: (event) => {
      events.push(event);
      // Stops in the midst of the fence; the other one has to finish it.
      if (event.type === "reclaim-started") stopA.abort();
    },
  });
  await using b = createController({
    ...settings,
    store: storeB,
    id: "b",
    onEvent: (event) => events.push(event),
  });
  const stopA = new AbortController();
  const runs = [a.run({ signal: stopA.signal })];
  await until("a leads", 20_000, () => a.leading);
  runs.push(b.run());

  simulator.deleteInstance(dead.registration.uid);
  await dead[Symbol.asyncDispose]();
  await until("the block is free", 60_000, () => has("subnet-freed"));
  // It may have lost the lead for a moment, on a machine that stands still; the other one cannot have it.
  await until("b leads", 20_000, () => b.leading);

  const types = events.filter(({ node }) => node === "n1").map(({ type }) => type);
  expect(types.filter((type) => type !== "reclaim-retry")).toEqual([
    "node-suspect",
    "reclaim-started",
    "subnet-quarantined",
    "subnet-freed",
  ]);
  const left = simulator.describeState().enis.map((eni) => eni.eniID);
  expect(left.filter((id) => dead.eniIDs.includes(id))).toEqual([]);
  expect(left).toEqual(expect.arrayContaining([...other.eniIDs]));
  const names = (await listAll(store, "")).entries.map(({ key }) => key);
  expect(names.filter((key) => /^(intents|quarantine)|n1$|172\.20\.0\./.test(key))).toEqual(["nodes/n1"]);

  await using next = await Node.join(store, simulator, cloud, "n3");
  expect(next.registration.subnet).toBe(dead.registration.subnet);
  await other.registration.verify();

  await b[Symbol.asyncDispose]();
  await Promise.all(runs);
});
