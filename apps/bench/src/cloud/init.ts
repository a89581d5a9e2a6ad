import { RecordedJob } from "@cocoon-net/cloud-testkit";
import {
  type CloudBudget,
  type CloudCall,
  type CloudDriver,
  DisposeStack,
  type NodeNetwork,
} from "@cocoon-net/core";
import type { SimulatedNode } from "./simulator-worker.ts";

export interface InitOptions {
  readonly driver: CloudDriver;
  readonly platform: string;
  readonly nodes: readonly SimulatedNode[];
  readonly budget: CloudBudget;
  readonly poolSize: number;
  readonly onCall: (call: CloudCall) => void;
  readonly onDone: (done: number) => void;
}

export const parentCIDR = "172.20.0.0/16";

/** What `cocoon-net init` asks of the cloud, for all nodes at once: each has a cloud of its own, all share the budget. */
export async function initAll(options: InitOptions): Promise<{ networks: NodeNetwork[]; ms: number }> {
  const { driver, platform, budget, poolSize, onCall } = options;
  await using opened = new DisposeStack();
  const clouds = options.nodes.map(({ env }) =>
    opened.use(driver.open(platform, { env: { ...process.env, ...env }, budget, onCall })),
  );
  let done = 0;
  const startedAt = performance.now();
  const networks = await Promise.all(
    clouds.map(async (cloud, index) => {
      const instance = await cloud.describeSelf();
      const node = `node-${index}`;
      const tags = { "cocoon-net:cluster": "bench", "cocoon-net:node": node };
      const subnet = `172.20.${index}.0/24`;
      const request = { node, instance, subnet, parentCIDR, poolSize, tags };
      const network = await cloud.provision(request, new RecordedJob(`init-${index}`));
      options.onDone(++done);
      return network;
    }),
  );
  return { networks, ms: performance.now() - startedAt };
}
