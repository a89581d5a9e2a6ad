import {
  type HeldRequest,
  isDelivering,
  VolcengineSimulator,
  type VolcengineSimulatorOptions,
} from "@cocoon-net/cloud-testkit";
import type { LimitedWorld } from "@cocoon-net/cloud-testkit/conformance";
import { CloudBudget, type CloudCall, DisposeStack } from "@cocoon-net/core";
import type { Environment } from "../src/settings.ts";
import type { Timing } from "../src/timing.ts";
import { VolcengineCloud } from "../src/volcengine-cloud.ts";

/** Changes take a few milliseconds here, so the driver may look as often. */
export const impatient: Timing = {
  requestMs: 15_000,
  budgetMs: 60_000,
  retryMs: 15_000,
  busyMs: 15_000,
  changeMs: 15_000,
  firstPauseMs: 4,
  maxPauseMs: 50,
  metadataMs: 10_000,
  throttledTries: 30,
};

/** A budget that is no obstacle, and makes no pauses after a refusal. */
export function unlimited(): CloudBudget {
  const rate = { perSecond: 1e6, burst: 1e6 };
  return new CloudBudget({ rates: { volcengine: { read: rate, write: rate } }, random: () => 0 });
}

/** For `expect.poll`, on a busy machine. */
export const patience = { timeout: 20_000 };

export const delays = {
  createEniMs: 4,
  attachMs: 6,
  detachMs: 6,
  deleteEniMs: 4,
  createSubnetMs: 5,
  instanceMs: 4,
};

/** A simulated account with its API on a loopback port, and the driver on it. */
export class VolcengineWorld implements LimitedWorld {
  readonly simulator: VolcengineSimulator;
  readonly api: string;
  /** Every request of every cloud that was opened here. */
  readonly requests: CloudCall[] = [];
  readonly #opened = new DisposeStack();
  readonly #budget: CloudBudget;

  private constructor(simulator: VolcengineSimulator, api: string, budget: CloudBudget) {
    this.simulator = this.#opened.use(simulator);
    this.api = api;
    this.#budget = budget;
  }

  static async open(
    options: VolcengineSimulatorOptions = {},
    budget: CloudBudget = unlimited(),
  ): Promise<VolcengineWorld> {
    const simulator = new VolcengineSimulator({ delays, ...options });
    const { api } = await simulator.listen({ api: { host: "127.0.0.1", port: 0 } });
    return new VolcengineWorld(simulator, api ?? "", budget);
  }

  /** Rates far from real ones, in the same proportion to the pauses between looks. */
  static async openLimited(budget: "fitting" | "generous"): Promise<VolcengineWorld> {
    if (budget === "generous") {
      const limits = { reads: { perSecond: 20, burst: 3 }, writes: { perSecond: 10, burst: 2 } };
      const rates = { read: { perSecond: 80, burst: 40 }, write: { perSecond: 40, burst: 20 } };
      // Short pauses, for the test's sake.
      const random = (): number => Math.random() / 5;
      return await VolcengineWorld.open(
        { limits },
        new CloudBudget({ rates: { volcengine: rates }, random }),
      );
    }
    const limits = { reads: { perSecond: 100, burst: 40 }, writes: { perSecond: 50, burst: 20 } };
    // Requests do not arrive as evenly as they are sent, least of all on a busy machine.
    const rates = { read: { perSecond: 80, burst: 4 }, write: { perSecond: 40, burst: 2 } };
    return await VolcengineWorld.open({ limits }, new CloudBudget({ rates: { volcengine: rates } }));
  }

  get refused(): number {
    return this.requests.filter(({ result }) => result === "throttled").length;
  }

  addInstance(): string {
    return this.simulator.addInstance().instanceID;
  }

  stopInstance(instanceID: string): void {
    this.simulator.stopInstance(instanceID);
  }

  deleteInstance(instanceID: string): void {
    this.simulator.deleteInstance(instanceID);
  }

  async environment(instanceID: string): Promise<Environment> {
    const at = { host: "127.0.0.1", port: 0, instanceID };
    const { metadata } = await this.simulator.listen({ metadata: at });
    return {
      COCOON_NET_VOLCENGINE_ENDPOINT: this.api,
      COCOON_NET_METADATA_ENDPOINT: metadata,
      VOLCENGINE_ACCESS_KEY_ID: "AKTEST",
      VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST",
      VOLCENGINE_REGION: this.simulator.region,
    };
  }

  async cloudOn(
    instanceID: string,
    timing: Partial<Timing> = {},
    budget: CloudBudget = this.#budget,
  ): Promise<VolcengineCloud> {
    const env = await this.environment(instanceID);
    const options = { timing: { ...impatient, ...timing }, budget };
    const onCall = (call: CloudCall): void => void this.requests.push(call);
    return this.#opened.use(new VolcengineCloud(env, { ...options, onCall }));
  }

  block(n: number): string {
    return `172.20.${n}.0/24`;
  }

  delivered(block: string): ReadonlyMap<string, string> {
    const delivered = new Map<string, string>();
    for (const eni of this.simulator.describeState().enis) {
      if (eni.subnet !== block || eni.instanceID === undefined || !isDelivering(eni)) continue;
      for (const { address } of eni.addresses) delivered.set(address, eni.instanceID);
    }
    return delivered;
  }

  /** Not the subnet: it stays for the next node by design. */
  resources(block: string): readonly string[] {
    const { enis } = this.simulator.describeState();
    return enis.filter((eni) => eni.subnet === block).map((eni) => eni.eniID);
  }

  hold(n: number, when: "before" | "after"): HeldRequest {
    return this.simulator.hold(n, when);
  }

  addForeign(block: string): string {
    return this.simulator.addEni({ subnetID: this.subnetID(block), addresses: [this.#lastAddress(block)] })
      .eniID;
  }

  attachForeign(block: string, instanceID: string): void {
    this.simulator.addEni({
      subnetID: this.subnetID(block),
      instanceID,
      addresses: [this.#lastAddress(block)],
    });
  }

  subnetID(block: string): string {
    const { subnets } = this.simulator.describeState();
    return (
      subnets.find((subnet) => subnet.cidr === block)?.subnetID ?? this.simulator.addSubnet({ cidr: block })
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened[Symbol.asyncDispose]();
  }

  #lastAddress(block: string): string {
    return block.replace(/\.0\/24$/, ".254");
  }
}
