import assert from "node:assert/strict";
import type { Cloud, MoveRequest, MoveResult, NodeNetwork } from "@cocoon-net/core";
import type { RecordedJob } from "../recorded-job.ts";
import { checkDelivered, TestNode } from "./test-node.ts";
import type { CloudWorld } from "./world.ts";

/** Few, so that moving is most of the work. */
const few = { poolSize: 4 };

/** Two nodes, an address that the first one has, and a cloud that is on neither. */
export class Move {
  readonly world: CloudWorld;
  readonly from: TestNode;
  readonly to: TestNode;
  readonly address: string;
  readonly observer: Cloud;
  readonly home: NodeNetwork;
  readonly target: NodeNetwork;

  private constructor(
    world: CloudWorld,
    nodes: { from: TestNode; to: TestNode; observer: Cloud },
    networks: { home: NodeNetwork; target: NodeNetwork },
  ) {
    this.world = world;
    this.from = nodes.from;
    this.to = nodes.to;
    this.observer = nodes.observer;
    this.home = networks.home;
    this.target = networks.target;
    const [, address] = networks.home.addresses;
    assert.ok(address);
    this.address = address;
  }

  static async prepare(world: CloudWorld): Promise<Move> {
    const [from, to] = [await TestNode.start(world, 0), await TestNode.start(world, 1)];
    const observer = await world.cloudOn(world.addInstance());
    const home = await from.provision(few);
    return new Move(world, { from, to, observer }, { home, target: await to.provision(few) });
  }

  there(job: RecordedJob = this.from.job(), signal?: AbortSignal): Promise<MoveResult> {
    const { from, to, address, home, target } = this;
    return this.#move(
      {
        address,
        from: from.target(home),
        to: to.target(target),
        instance: to.instance,
        tags: to.tags,
      },
      job,
      signal,
    );
  }

  /** @param moved what the target had after the move, as far as that is known */
  back(moved: NodeNetwork = this.target, job: RecordedJob = this.from.job()): Promise<MoveResult> {
    const { from, to, address, home } = this;
    return this.#move(
      {
        address,
        from: to.target(moved, { movedIn: [address] }),
        to: from.target(home, { movedAway: [address] }),
        instance: from.instance,
        tags: from.tags,
      },
      job,
    );
  }

  checkThere({ verified, evidence, network }: MoveResult, where?: string): void {
    const { world, from, to, address, home, target } = this;
    assert.equal(verified, true, `${where}: ${evidence}`);
    checkDelivered(world, from.block, [address], to.instanceID);
    const others = home.addresses.filter((other) => other !== address);
    checkDelivered(world, from.block, others, from.instanceID);
    checkDelivered(world, to.block, target.addresses, to.instanceID);
    for (const has of [address, ...target.addresses]) assert.ok(network.addresses.includes(has), has);
  }

  checkBack({ verified, evidence, network }: MoveResult, where?: string): void {
    const { world, from, to, home, target } = this;
    assert.equal(verified, true, `${where}: ${evidence}`);
    checkDelivered(world, from.block, home.addresses, from.instanceID);
    checkDelivered(world, to.block, target.addresses, to.instanceID);
    for (const has of home.addresses) assert.ok(network.addresses.includes(has), has);
  }

  async #move(request: MoveRequest, job: RecordedJob, signal?: AbortSignal): Promise<MoveResult> {
    return await this.observer.move(request, job, { signal });
  }
}
