import {
  type GceInstance,
  GceSimulator,
  type GceSimulatorOptions,
  type HeldRequest,
} from "@cocoon-net/cloud-testkit";
import type { LimitedWorld } from "@cocoon-net/cloud-testkit/conformance";
import {
  CloudBudget,
  type CloudCall,
  contains,
  DisposeStack,
  formatAddress,
  parseCidr,
  rangeOf,
} from "@cocoon-net/core";
import { GkeCloud, type GkeCloudOptions } from "../src/gke-cloud.ts";
import type { Environment } from "../src/settings.ts";
import type { Timing } from "../src/timing.ts";

/** Changes take a few milliseconds here, so the driver may look as often. */
export const impatient: Timing = {
  requestMs: 15_000,
  waitRequestMs: 5_000,
  retryMs: 15_000,
  budgetMs: 20_000,
  changeMs: 20_000,
  firstPauseMs: 4,
  maxPauseMs: 50,
  metadataMs: 10_000,
  watchMs: 5_000,
};

const unlimited = { perSecond: 5_000, burst: 5_000, perMinute: undefined };

/** One that never makes a test wait. */
export function generousBudget(): CloudBudget {
  return new CloudBudget({ rates: { gke: { read: unlimited, write: unlimited } }, random: () => 0 });
}

/** For `expect.poll`, on a busy machine. */
export const patience = { timeout: 20_000 };

const delays = { pendingMs: 1, operationMs: 3, instanceMs: 4 };

/** A simulated project with its API on a loopback port, and the driver on it. */
export class GkeWorld implements LimitedWorld {
  readonly simulator: GceSimulator;
  readonly api: string;
  /** What the driver says of its requests. */
  readonly madeCalls: CloudCall[] = [];
  readonly #opened = new DisposeStack();
  readonly #budget: CloudBudget;

  private constructor(simulator: GceSimulator, api: string, budget: CloudBudget) {
    this.simulator = this.#opened.use(simulator);
    this.api = api;
    this.#budget = budget;
  }

  /** With the pod range of a cluster, unless the options say otherwise. */
  static async open(
    options: GceSimulatorOptions = {},
    budget: CloudBudget = generousBudget(),
  ): Promise<GkeWorld> {
    const simulator = new GceSimulator({
      secondaryRanges: { "cocoon-pods": "172.20.0.0/16" },
      ...options,
      delays: { ...delays, ...options.delays },
    });
    const { api } = await simulator.listen({ api: { host: "127.0.0.1", port: 0 } });
    return new GkeWorld(simulator, api ?? "", budget);
  }

  get refused(): number {
    return this.madeCalls.filter(({ result }) => result === "throttled").length;
  }

  hold(n: number, when: "before" | "after"): HeldRequest {
    return this.simulator.hold(n, when);
  }

  addInstance(name?: string): string {
    return idOf(this.simulator.addInstance(name === undefined ? {} : { name }));
  }

  stopInstance(instanceID: string): void {
    this.simulator.stopInstance(numberOf(instanceID));
  }

  deleteInstance(instanceID: string): void {
    this.simulator.deleteInstance(numberOf(instanceID));
  }

  async environment(instanceID: string): Promise<Environment> {
    const at = { host: "127.0.0.1", port: 0, instance: numberOf(instanceID) };
    const { metadata } = await this.simulator.listen({ metadata: at });
    return {
      COCOON_NET_GCE_ENDPOINT: this.api,
      COCOON_NET_METADATA_ENDPOINT: metadata,
      HOME: "/nonexistent",
    };
  }

  async cloudOn(
    instanceID: string,
    timing: Partial<Timing> = {},
    options: Partial<GkeCloudOptions> = {},
  ): Promise<GkeCloud> {
    const env = { ...(await this.environment(instanceID)), ...options.env };
    const budget = options.budget ?? this.#budget;
    const onCall = (call: CloudCall) => this.madeCalls.push(call);
    return this.#opened.use(
      new GkeCloud({ onCall, ...options, env, budget, timing: { ...impatient, ...timing } }),
    );
  }

  block(n: number): string {
    return `172.20.${n}.0/24`;
  }

  delivered(block: string): ReadonlyMap<string, string> {
    const delivered = new Map<string, string>();
    for (const { instance, cidr } of this.#aliasesIn(block)) {
      if (instance.status !== "RUNNING") continue;
      const { first, last } = rangeOf(parseCidr(cidr));
      for (let address = first; address <= last; address++) {
        delivered.set(formatAddress(address), idOf(instance));
      }
    }
    return delivered;
  }

  resources(block: string): readonly string[] {
    return this.#aliasesIn(block).map(({ instance, cidr }) => `${instance.name} ${cidr}`);
  }

  attachForeign(block: string, instanceID: string): void {
    const cidr = block.replace(/\.0\/24$/, ".252/32");
    this.simulator.addAlias(numberOf(instanceID), { cidr, rangeName: "cocoon-pods" });
  }

  /** `cocoon-pods:172.20.0.0/24`, in the API's order. */
  aliasesOf(instanceID: string): string[] {
    const { instances } = this.simulator.describeState();
    const found = instances.find(({ id }) => id === numberOf(instanceID));
    return (found?.nic.aliases ?? []).map(({ cidr, rangeName }) => `${rangeName ?? "primary"}:${cidr}`);
  }

  podRange(): string | undefined {
    const { subnetworks } = this.simulator.describeState();
    const ranges = subnetworks.flatMap((subnetwork) => subnetwork.secondaryRanges);
    return ranges.find(({ rangeName }) => rangeName === "cocoon-pods")?.cidr;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened[Symbol.asyncDispose]();
  }

  #aliasesIn(block: string): { instance: GceInstance; cidr: string }[] {
    return this.simulator
      .describeState()
      .instances.flatMap((instance) => instance.nic.aliases.map(({ cidr }) => ({ instance, cidr })))
      .filter(({ cidr }) => contains(parseCidr(block), parseCidr(cidr)));
  }
}

/** What the driver calls an instance. */
export function idOf({ project, zone, name, id }: GceInstance): string {
  return `${project}/${zone}/${name}/${id}`;
}

export function numberOf(instanceID: string): string {
  return instanceID.slice(instanceID.lastIndexOf("/") + 1);
}
