import assert from "node:assert/strict";
import {
  type Cloud,
  contains,
  type InstanceIdentity,
  type NodeNetwork,
  type NodeResources,
  type ProvisionRequest,
  parseAddress,
  parseCidr,
} from "@cocoon-net/core";
import { describe, it } from "vitest";
import { RecordedJob, SimulatedCrash } from "./recorded-job.ts";

/** What the suite needs to know about a cloud. */
export interface CloudUnderTest {
  readonly name: string;
  /** A new account, empty but for what instances need. */
  open(): Promise<CloudWorld>;
}

/** One simulated account, as it truly is. */
export interface CloudWorld extends AsyncDisposable {
  /** A new running instance. */
  addInstance(): string;
  stopInstance(instanceID: string): void;
  deleteInstance(instanceID: string): void;
  /** The cloud as a program on that instance has it; the world closes it. */
  cloudOn(instanceID: string): Promise<Cloud>;
  /** The n-th block for a node, from 0; they do not overlap. */
  block(n: number): string;
  /** Addresses of the block that are delivered to somebody, with the instance. */
  delivered(block: string): ReadonlyMap<string, string>;
  /** Ids of all that was made in the block and would be charged or stand in the way, in any order. */
  resources(block: string): readonly string[];
  /**
   * Makes something of somebody else in the block, not attached to anything. Returns its id. Left out where nothing
   * exists at the cloud unattached.
   */
  addForeign?(block: string): string;
  /** Makes an address of the block, none of which is in use, be delivered to the instance, by somebody else's doing. */
  attachForeign(block: string, instanceID: string): void;
}

const poolSize = 25;

/** Registers the suite with vitest. Every check has an account of its own. */
export function cloudConformance(subject: CloudUnderTest): void {
  const check = (name: string, run: (world: CloudWorld) => Promise<void>, timeoutMs = 30_000): void => {
    it(
      name,
      async () => {
        await using world = await subject.open();
        await run(world);
      },
      timeoutMs,
    );
  };

  describe(`${subject.name}: conformance`, () => {
    describe("instances", () => {
      check("describeSelf names the instance that the program runs on", async (world) => {
        const first = world.addInstance();
        const second = world.addInstance();
        assert.equal((await (await world.cloudOn(first)).describeSelf()).instanceID, first);
        assert.equal((await (await world.cloudOn(second)).describeSelf()).instanceID, second);
      });

      check("describeInstance tells running, stopped and gone apart", async (world) => {
        const [observer, instance] = [world.addInstance(), world.addInstance()];
        const cloud = await world.cloudOn(observer);
        assert.equal(await cloud.describeInstance(instance), "running");
        world.stopInstance(instance);
        await until("stopped", async () => (await cloud.describeInstance(instance)) === "stopped");
        world.deleteInstance(instance);
        await until("gone", async () => (await cloud.describeInstance(instance)) === "gone");
        assert.equal(await cloud.describeInstance(observer), "running");
      });

      check("describeInstance says unknown of what is no instance id (G8)", async (world) => {
        const cloud = await world.cloudOn(world.addInstance());
        for (const id of ["", "garbage!", "../..", " "]) {
          assert.equal(await cloud.describeInstance(id), "unknown", `for "${id}"`);
        }
      });
    });

    describe("provision", () => {
      check("gives as many addresses as were asked for, and the cloud delivers them", async (world) => {
        const node = await startNode(world, 0);
        const network = await node.provision();
        checkNetwork(world, node, network);
      });

      check("run again, it confirms the same and makes nothing", async (world) => {
        const node = await startNode(world, 0);
        const first = await node.provision();
        const resources = world.resources(node.block);
        const second = await node.provision();
        assert.deepEqual(sorted(second), sorted(first));
        assert.deepEqual([...world.resources(node.block)].sort(), [...resources].sort());
      });

      check("two nodes at once get disjoint addresses", async (world) => {
        const [one, two] = [await startNode(world, 0), await startNode(world, 1)];
        const [first, second] = await Promise.all([one.provision(), two.provision()]);
        checkNetwork(world, one, first);
        checkNetwork(world, two, second);
      });

      check(
        "killed at any recorded step and run again, it ends as if it had not been (G11)",
        async (world) => {
          const model = await startNode(world, 0);
          const job = new RecordedJob("model");
          await model.provision(job);
          const resources = world.resources(model.block).length;
          let block = 1;
          for (let at = 0; at < job.calls; at++) {
            for (const durable of [false, true]) {
              const node = await startNode(world, block++);
              const dying = new RecordedJob(`job-${at}-${durable}`, { crash: { at, durable } });
              await assert.rejects(node.provision(dying), SimulatedCrash);
              checkNetwork(world, node, await node.provision(dying.restarted()));
              assert.equal(world.resources(node.block).length, resources, `after a crash at step ${at}`);
            }
          }
        },
        120_000,
      );

      check("stops at once when it is aborted", async (world) => {
        const node = await startNode(world, 0);
        const reason = new Error("enough");
        const options = { signal: AbortSignal.abort(reason) };
        await assert.rejects(node.provision(new RecordedJob("aborted"), options), reason);
        assert.deepEqual(world.resources(node.block), []);
      });
    });

    describe("fence", () => {
      for (const end of ["stopInstance", "deleteInstance"] as const) {
        check(`after ${end}, nothing of the block is delivered and the cloud says so (G5)`, async (world) => {
          const node = await startNode(world, 0);
          const network = await node.provision();
          world[end](node.instance.instanceID);
          const observer = await world.cloudOn(world.addInstance());
          await until(
            end,
            async () => (await observer.describeInstance(node.instance.instanceID)) !== "running",
          );
          for (let run = 0; run < 2; run++) {
            const { verified, evidence } = await observer.fence(
              node.target(network),
              new RecordedJob(`f${run}`),
            );
            assert.equal(verified, true, evidence);
            assert.equal(world.delivered(node.block).size, 0);
          }
        });
      }

      check("is not verified while another instance holds an address of the block (G5)", async (world) => {
        const node = await startNode(world, 0);
        const network = await node.provision();
        const other = world.addInstance();
        world.deleteInstance(node.instance.instanceID);
        const observer = await world.cloudOn(other);
        await until(
          "gone",
          async () => (await observer.describeInstance(node.instance.instanceID)) === "gone",
        );
        await until("free", async () => world.delivered(node.block).size === 0);
        world.attachForeign(node.block, other);
        const { verified, evidence } = await observer.fence(node.target(network), new RecordedJob("f"));
        assert.equal(verified, false);
        assert.match(evidence, new RegExp(other));
        assert.deepEqual([...new Set(world.delivered(node.block).values())], [other]);
      });
    });

    describe("release", () => {
      check("leaves nothing of the node, and all of the others", async (world) => {
        const [node, neighbour] = [await startNode(world, 0), await startNode(world, 1)];
        const network = await node.provision();
        const untouched = await neighbour.provision();
        const foreign = world.addForeign?.(node.block);
        world.deleteInstance(node.instance.instanceID);
        const target = node.target(network);
        const result = await neighbour.cloud.release(target, new RecordedJob("r"));
        assert.deepEqual(result.remaining, []);
        for (const eniID of network.eniIDs) assert.ok(result.released.includes(eniID), eniID);
        assert.deepEqual(world.resources(node.block), foreign === undefined ? [] : [foreign]);
        checkNetwork(world, neighbour, untouched);

        const again = await neighbour.cloud.release(target, new RecordedJob("again"));
        assert.deepEqual(again.remaining, []);
      });

      check("does not take what was recorded by mistake but belongs to another node (G11)", async (world) => {
        const [node, neighbour] = [await startNode(world, 0), await startNode(world, 1)];
        const network = await node.provision();
        const theirs = await neighbour.provision();
        const target = node.target({ ...network, eniIDs: [...network.eniIDs, ...theirs.eniIDs] });
        const result = await neighbour.cloud.release(target, new RecordedJob("r"));
        assert.deepEqual(result.remaining.map(({ id }) => id).sort(), [...theirs.eniIDs].sort());
        checkNetwork(world, neighbour, theirs);
      });

      check("does not take what another instance has in the block (G11)", async (world) => {
        const [node, neighbour] = [await startNode(world, 0), await startNode(world, 1)];
        const theirs = await neighbour.provision();
        const target = { ...node.target({ eniIDs: [] }), subnet: neighbour.block };
        await node.cloud.release(target, new RecordedJob("r"));
        checkNetwork(world, neighbour, theirs);
        const { verified } = await node.cloud.fence(target, new RecordedJob("f"));
        assert.equal(verified, false);
        checkNetwork(world, neighbour, theirs);
      });

      check("undoes what a killed provision has left behind", async (world) => {
        const job = new RecordedJob("model");
        await (await startNode(world, 0)).provision(job);
        let block = 1;
        for (let at = 0; at < job.calls; at++) {
          const node = await startNode(world, block++);
          const dying = new RecordedJob(`job-${at}`, { crash: { at, durable: false } });
          await assert.rejects(node.provision(dying), SimulatedCrash);
          // Only the seed was on record: no ids of what was made are known.
          const result = await node.cloud.release(node.target({ eniIDs: [] }), new RecordedJob(`r-${at}`));
          assert.deepEqual(result.remaining, []);
          assert.deepEqual(world.resources(node.block), [], `after a crash at step ${at}`);
        }
      });

      check(
        "killed at any recorded step and run again, it ends as if it had not been (G11)",
        async (world) => {
          const model = await startNode(world, 0);
          const job = new RecordedJob("model");
          await model.cloud.release(model.target(await model.provision()), job);
          for (let at = 0; at < job.calls; at++) {
            for (const durable of [false, true]) {
              const node = await startNode(world, 0);
              const target = node.target(await node.provision());
              const dying = new RecordedJob(`job-${at}-${durable}`, { crash: { at, durable } });
              await assert.rejects(node.cloud.release(target, dying), SimulatedCrash);
              const result = await node.cloud.release(target, dying.restarted());
              assert.deepEqual(result.remaining, []);
              assert.deepEqual(world.resources(node.block), [], `after a crash at step ${at}`);
            }
          }
        },
        120_000,
      );

      check("a block that was given back serves the next node", async (world) => {
        const node = await startNode(world, 0);
        const target = node.target(await node.provision());
        world.deleteInstance(node.instance.instanceID);
        const next = await startNode(world, 0);
        assert.equal((await next.cloud.fence(target, new RecordedJob("f"))).verified, true);
        assert.deepEqual((await next.cloud.release(target, new RecordedJob("r"))).remaining, []);
        checkNetwork(world, next, await next.provision());
      });
    });
  });
}

interface TestNode {
  readonly block: string;
  readonly cloud: Cloud;
  readonly instance: InstanceIdentity;
  provision(job?: RecordedJob, options?: { signal: AbortSignal }): Promise<NodeNetwork>;
  target(network: Pick<NodeNetwork, "eniIDs" | "subnetID">): NodeResources;
}

async function startNode(world: CloudWorld, n: number): Promise<TestNode> {
  const cloud = await world.cloudOn(world.addInstance());
  const instance = await cloud.describeSelf();
  const node = `node-${n}`;
  const block = world.block(n);
  const tags = { "cocoon-net:cluster": "conformance", "cocoon-net:node": node };
  const request: ProvisionRequest = { node, instance, subnet: block, poolSize, tags };
  let jobs = 0;
  return {
    block,
    cloud,
    instance,
    provision: (job = new RecordedJob(`${instance.instanceID}-${++jobs}`), options = undefined) =>
      cloud.provision(request, job, options),
    target: ({ eniIDs, subnetID }) => ({
      node,
      instanceID: instance.instanceID,
      subnet: block,
      eniIDs,
      ...(subnetID === undefined ? {} : { subnetID }),
    }),
  };
}

/** The addresses are distinct, ascending, in the block, as many as asked for, and delivered to the node. */
function checkNetwork(world: CloudWorld, node: TestNode, network: NodeNetwork): void {
  const { addresses } = network;
  assert.equal(addresses.length, poolSize);
  assert.equal(new Set(addresses).size, poolSize);
  const numbers = addresses.map((address) => parseAddress(address));
  assert.deepEqual(
    numbers,
    [...numbers].sort((a, b) => a - b),
  );
  const delivered = world.delivered(node.block);
  for (const address of addresses) {
    assert.ok(contains(parseCidr(node.block), { base: parseAddress(address), prefix: 32 }), address);
    assert.equal(delivered.get(address), node.instance.instanceID, address);
  }
}

function sorted(network: NodeNetwork): NodeNetwork {
  return { ...network, eniIDs: [...network.eniIDs].sort(), nicMACs: [...network.nicMACs].sort() };
}

/** Asks until the answer is true. */
async function until(what: string, probe: () => Promise<boolean>, ms = 10_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await probe())) {
    assert.ok(performance.now() < end, `${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
