import { requestMigration } from "@cocoon-net/controller";
import { decode, type LeaseRecord, leaseSchema } from "@cocoon-net/core";
import { SimulatedAgent } from "./simulated-agent.ts";
import { TestCluster, type TestNode } from "./test-cluster.ts";

/** The guest's address, and its VM. */
export const ip = "10.0.0.2";
export const vm = "vm-1";

export interface Fleet extends AsyncDisposable {
  readonly cluster: TestCluster;
  readonly nodes: readonly [TestNode, TestNode, TestNode];
  readonly agents: readonly [SimulatedAgent, SimulatedAgent, SimulatedAgent];
}

/** n1, n2 and n3 with 10.0.0.0/24 and so on; 10.0.0.2 is vm-1's. */
export async function threeNodes(
  options: { readonly damaged?: boolean; readonly leaseMs?: number } = {},
): Promise<Fleet> {
  const cluster = await TestCluster.open(options);
  const nodes = [await cluster.join("n1"), await cluster.join("n2"), await cluster.join("n3")] as const;
  const agents = [
    new SimulatedAgent(cluster.store, nodes[0]),
    new SimulatedAgent(cluster.store, nodes[1]),
    new SimulatedAgent(cluster.store, nodes[2]),
  ] as const;
  const { entry } = await cluster.store.get(`pool/${ip}`);
  if (!entry) throw new Error("there is no lease");
  await nodes[0].registration.mirror([[ip, { ...decode(leaseSchema, entry), vmID: vm }]]);
  return {
    cluster,
    nodes,
    agents,
    [Symbol.asyncDispose]: async () => {
      for (const agent of agents) await agent.stop();
      await cluster[Symbol.asyncDispose]();
    },
  };
}

export function now(cluster: TestCluster): { readonly now: () => Date } {
  return { now: () => cluster.date() };
}

export async function isOver(cluster: TestCluster): Promise<boolean> {
  return Object.keys(await cluster.records()).every((key) => !key.startsWith("intents/"));
}

export async function move(cluster: TestCluster, to: string): Promise<void> {
  await requestMigration(cluster.store, { ip, to }, now(cluster));
  await cluster.until(`it is moved to ${to}`, () => isOver(cluster));
}

export function at(records: Record<string, unknown>, key: string): LeaseRecord & { readonly move?: unknown } {
  return Object(records[key]) as LeaseRecord & { readonly move?: unknown };
}

export async function eventsOf(cluster: TestCluster): Promise<string[]> {
  return (await cluster.history("n1")).filter(
    (type) => /^(move-|address-)/.test(type) && type !== "move-retry",
  );
}
