/** Runs inside the hub's namespace: the store server, a client of it, and the simulated cloud. One JSON line a call. */
import { execFile } from "node:child_process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { isDelivering, type SimulatedEni, VolcengineSimulator } from "@cocoon-net/cloud-testkit";
import { listAll, type Store } from "@cocoon-net/core";
import { startEtcd, startRedis, type TestServer } from "@cocoon-net/store-testkit/servers";
import { present } from "../../src/dhcp-settings.ts";
import { openStore } from "../../src/drivers.ts";
import type { HubApi } from "./hub-api.ts";

const host = process.argv[2] ?? "";
const run = promisify(execFile);
let server: TestServer | undefined;
let store: Store | undefined;
let url = "";
let simulator: VolcengineSimulator | undefined;
const kernels = new Map<string, string>();
let plugging: Promise<unknown> = Promise.resolve();

const api: HubApi = {
  async startServer(kind) {
    server = await (kind === "etcd" ? startEtcd({ host }) : startRedis({ host, appendonly: true }));
    url = `${kind}://${host}:${server.port}`;
    return url;
  },
  async stopServer(signal) {
    await store?.[Symbol.asyncDispose]();
    store = undefined;
    await server?.stop(signal);
  },
  restartServer: async () => server?.start(),
  pauseServer: () => server?.pause(),
  resumeServer: () => server?.resume(),
  async list(prefix) {
    const { entries } = await listAll(await opened(), prefix);
    return Object.fromEntries(entries.map(({ key, value }) => [key, value]));
  },
  async put(key, value) {
    await (await opened()).txn({ then: [{ put: key, value }] });
  },
  async remove(...keys) {
    await (await opened()).txn({ then: keys.map((key) => ({ delete: key })) });
  },
  async startCloud() {
    simulator = new VolcengineSimulator({
      vpcCIDR: "172.20.0.0/16",
      delays: { createEniMs: 50, attachMs: 50, detachMs: 50, deleteEniMs: 50, createSubnetMs: 50 },
    });
    // Attached ENIs are hot-plugged: a veth with the ENI's MAC in the instance's namespace.
    simulator.onChange((change) => {
      if (change.kind !== "eni") return;
      const { before, after } = change;
      if ((after ?? before)?.type === "primary" || isDelivering(before) === isDelivering(after)) return;
      plugging = plugging.then(() => (isDelivering(after) ? plug(after) : unplug(before)));
    });
    const { api: address } = await simulator.listen({ api: { host, port: 0 } });
    return { api: address ?? "", region: simulator.region };
  },
  async addInstance(instanceID, namespace) {
    kernels.set(instanceID, namespace);
    cloud().addInstance({ instanceID });
    return (await cloud().listen({ metadata: { host, port: 0, instanceID } })).metadata ?? "";
  },
  addForeignENI: (subnetID, addresses, instanceID) =>
    cloud().addEni({ subnetID, addresses, name: "somebody's", ...present({ instanceID }) }).eniID,
  injectFault: (rule) => cloud().injectFault(rule),
  clearFaults: () => cloud().clearFaults(),
  cloudState: () => cloud().describeState(),
  calls: () => ({ ...cloud().calls }),
};

function cloud(): VolcengineSimulator {
  if (!simulator) throw new Error("the cloud was not started");
  return simulator;
}

async function opened(): Promise<Store> {
  store ??= await openStore(url);
  return store;
}

async function plug(eni: SimulatedEni | undefined): Promise<void> {
  const namespace = kernels.get(eni?.instanceID ?? "");
  if (!eni || namespace === undefined) return;
  const peer = ["peer", "name", guestLink(eni), "address", eni.mac, "netns", namespace];
  await run("ip", ["link", "add", link(eni), "type", "veth", ...peer]);
  await run("ip", ["link", "set", link(eni), "up"]);
}

async function unplug(eni: SimulatedEni | undefined): Promise<void> {
  // It may have gone already, with the instance's namespace.
  if (eni) await run("ip", ["link", "delete", link(eni)]).catch(() => undefined);
}

function link(eni: SimulatedEni): string {
  return `e${eni.mac.replaceAll(":", "").slice(-10)}`;
}

function guestLink(eni: SimulatedEni): string {
  return `v${eni.mac.replaceAll(":", "").slice(-10)}`;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, args } = JSON.parse(line) as { id: number; method: keyof HubApi; args: unknown[] };
  const call = api[method] as (...values: unknown[]) => unknown;
  void Promise.resolve()
    .then(() => call(...args))
    .then(
      (result) => ({ id, result }),
      (error: unknown) => ({ id, error: String(error) }),
    )
    .then((answer) => process.stdout.write(`${JSON.stringify(answer)}\n`));
}
await simulator?.[Symbol.asyncDispose]();
await store?.[Symbol.asyncDispose]();
await server?.[Symbol.asyncDispose]();
process.exit();
