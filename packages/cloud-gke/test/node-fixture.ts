import { RecordedJob } from "@cocoon-net/cloud-testkit";
import type { MoveRequest, MoveResult, NodeNetwork, NodeResources, ProvisionRequest } from "@cocoon-net/core";
import type { GkeCloud } from "../src/gke-cloud.ts";
import type { Timing } from "../src/timing.ts";
import type { GkeWorld } from "./gke-world.ts";

export const cluster = "cluster-1";

/** A node on an instance of its own. */
export class NodeFixture {
  readonly cloud: GkeCloud;
  readonly request: ProvisionRequest;
  readonly progress: string[] = [];
  #jobs = 0;

  private constructor(cloud: GkeCloud, request: ProvisionRequest) {
    this.cloud = cloud;
    this.request = request;
  }

  static async start(
    world: GkeWorld,
    options: Partial<Pick<ProvisionRequest, "node" | "subnet" | "parentCIDR" | "poolSize" | "tags">> = {},
    timing: Partial<Timing> = {},
  ): Promise<NodeFixture> {
    const cloud = await world.cloudOn(world.addInstance(), timing);
    const instance = await cloud.describeSelf();
    const tags = { "cocoon-net:cluster": cluster };
    return new NodeFixture(cloud, {
      node: "n1",
      subnet: world.block(0),
      poolSize: 25,
      tags,
      ...options,
      instance,
    });
  }

  get instanceID(): string {
    return this.request.instance.instanceID;
  }

  async provision(job: RecordedJob = this.job()): Promise<NodeNetwork> {
    return await this.cloud.provision(this.request, job, { onProgress: (line) => this.progress.push(line) });
  }

  async move(
    address: string,
    to: NodeFixture,
    record: { readonly from?: readonly string[]; readonly to?: readonly string[] } = {},
  ): Promise<MoveResult> {
    return await this.cloud.move(moveOf(address, this, to, record), this.job());
  }

  job(): RecordedJob {
    return new RecordedJob(`${this.instanceID}-${++this.#jobs}`);
  }

  target(network: Partial<NodeNetwork> = {}): NodeResources {
    return {
      node: this.request.node,
      instanceID: this.instanceID,
      subnet: this.request.subnet,
      eniIDs: network.eniIDs ?? [],
      ...(network.subnetID === undefined ? {} : { subnetID: network.subnetID }),
    };
  }
}

/** Each side's record says of these other addresses that they were moved. */
export function moveOf(
  address: string,
  from: NodeFixture,
  to: NodeFixture,
  record: { readonly from?: readonly string[]; readonly to?: readonly string[] } = {},
): MoveRequest {
  const side = (node: NodeFixture, moved: readonly string[] = []): NodeResources => {
    const isOwn = (one: string) => one.startsWith(node.request.subnet.replace(/0\/24$/, ""));
    return {
      ...node.target(),
      movedAway: moved.filter(isOwn),
      movedIn: moved.filter((one) => !isOwn(one)),
    };
  };
  return {
    address,
    from: side(from, record.from),
    to: side(to, record.to),
    instance: to.request.instance,
    tags: {},
  };
}
