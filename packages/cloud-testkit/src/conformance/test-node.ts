import assert from "node:assert/strict";
import {
  blockOf,
  type Cloud,
  contains,
  formatAddress,
  formatCidr,
  type InstanceIdentity,
  type JobStep,
  type NodeNetwork,
  type NodeResources,
  type ProvisionRequest,
  parseAddress,
  parseCidr,
} from "@cocoon-net/core";
import { type CrashPoint, RecordedJob } from "../recorded-job.ts";
import type { CloudWorld } from "./world.ts";

export const cluster = "conformance";
export const clusterTag = "cocoon-net:cluster";

/** Addresses that a node gets unless a test says otherwise: more than one NIC has, where NICs have few. */
export const poolSize = 25;

type Wanted = Partial<Pick<ProvisionRequest, "poolSize" | "addresses">>;

/** A node on an instance of its own, with a block of its own. */
export class TestNode {
  readonly name: string;
  readonly block: string;
  readonly cloud: Cloud;
  readonly instance: InstanceIdentity;
  readonly tags: Readonly<Record<string, string>>;
  #jobs = 0;

  private constructor(n: number, block: string, cloud: Cloud, instance: InstanceIdentity) {
    this.name = `node-${n}`;
    this.block = block;
    this.cloud = cloud;
    this.instance = instance;
    this.tags = { [clusterTag]: cluster, "cocoon-net:node": this.name };
  }

  /** @param n number of the block */
  static async start(world: CloudWorld, n: number): Promise<TestNode> {
    const cloud = await world.cloudOn(world.addInstance());
    return new TestNode(n, world.block(n), cloud, await cloud.describeSelf());
  }

  get instanceID(): string {
    return this.instance.instanceID;
  }

  job(crash?: CrashPoint, steps: readonly JobStep[] = []): RecordedJob {
    const id = `${this.instanceID}-${++this.#jobs}`;
    return new RecordedJob(id, crash === undefined ? { steps } : { steps, crash });
  }

  request(wanted: Wanted = {}): ProvisionRequest {
    const { name: node, instance, block: subnet, tags } = this;
    return { node, instance, subnet, poolSize, tags, ...wanted };
  }

  async provision(
    wanted: Wanted = {},
    job: RecordedJob = this.job(),
    signal?: AbortSignal,
  ): Promise<NodeNetwork> {
    return await this.cloud.provision(this.request(wanted), job, { signal });
  }

  /** What is on record of the node. */
  target(
    network: Partial<Pick<NodeNetwork, "eniIDs" | "subnetID">>,
    more: Partial<NodeResources> = {},
  ): NodeResources {
    const { name: node, instanceID, block: subnet } = this;
    const { eniIDs = [], subnetID } = network;
    return { node, instanceID, subnet, eniIDs, ...(subnetID === undefined ? {} : { subnetID }), ...more };
  }

  /** The n-th address of the block. */
  address(n: number): string {
    return formatAddress(parseCidr(this.block).base + n);
  }
}

/** The addresses are distinct, ascending, in the block, at least so many, and delivered to the node. */
export function checkNetwork(
  world: CloudWorld,
  node: TestNode,
  { addresses }: Pick<NodeNetwork, "addresses">,
  atLeast: number = poolSize,
): void {
  assert.ok(addresses.length >= atLeast, `${addresses.length} addresses, of ${atLeast}`);
  assert.equal(new Set(addresses).size, addresses.length);
  const numbers = addresses.map((address) => parseAddress(address));
  assert.deepEqual(
    numbers,
    [...numbers].sort((a, b) => a - b),
  );
  for (const [index, base] of numbers.entries()) {
    assert.ok(contains(parseCidr(node.block), { base, prefix: 32 }), addresses[index]);
  }
  checkDelivered(world, node.block, addresses, node.instanceID);
}

/** All of these addresses of the block are delivered to that instance. */
export function checkDelivered(
  world: CloudWorld,
  block: string,
  addresses: readonly string[],
  instanceID: string,
): void {
  const delivered = world.delivered(block);
  for (const address of addresses) assert.equal(delivered.get(address), instanceID, address);
}

/** With everything in it that has no order, in order. */
export function sorted(network: NodeNetwork): NodeNetwork {
  return { ...network, eniIDs: [...network.eniIDs].sort(), nicMACs: [...network.nicMACs].sort() };
}

/** The smallest range that all blocks are in. */
export function parentOf(blocks: readonly string[]): string {
  const parsed = blocks.map((block) => parseCidr(block));
  for (let prefix = 32; prefix > 0; prefix--) {
    const parent = blockOf(parsed[0]?.base ?? 0, prefix);
    if (parsed.every((block) => contains(parent, block))) return formatCidr(parent);
  }
  return "0.0.0.0/0";
}

/** Asks until the answer is true. */
export async function until(what: string, probe: () => Promise<boolean>, ms = 20_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await probe())) {
    assert.ok(performance.now() < end, `${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
