import { type FaultRule, RecordedJob, SimulatedCrash } from "@cocoon-net/cloud-testkit";
import type { CloudCallOptions, CloudJob, JobStep, MoveRequest, NodeNetwork } from "@cocoon-net/core";
import { describe, expect, it, vi } from "vitest";
import { useOf } from "../src/ownership.ts";
import { NodeFixture } from "./node-fixture.ts";
import { VolcengineWorld } from "./volcengine-world.ts";

/** A job that dies with its program: nothing is written down after that. */
class DyingJob extends RecordedJob {
  readonly #signal: AbortSignal;

  constructor(id: string, signal: AbortSignal) {
    super(id);
    this.#signal = signal;
  }

  override async record(step: JobStep): Promise<void> {
    if (this.#signal.aborted) throw new SimulatedCrash(step);
    await super.record(step);
  }
}

/** A job, in a world that has been made ready for it. */
type Work = (job: CloudJob, options: CloudCallOptions) => Promise<unknown>;

const cases: Readonly<Record<string, (world: VolcengineWorld) => Promise<Work>>> = {
  async provision(world) {
    const node = await NodeFixture.start(world);
    return (job, options) => node.cloud.provision(node.request, job, options);
  },

  async "grow by number and by name"(world) {
    const node = await NodeFixture.start(world, { poolSize: 3 });
    await node.provision();
    const request = { ...node.request, poolSize: 30, addresses: ["172.20.0.100", "172.20.0.101"] };
    return (job, options) => node.cloud.provision(request, job, options);
  },

  async shrink(world) {
    const node = await NodeFixture.start(world);
    const network = await node.provision();
    const unwanted = network.addresses.filter((_, index) => index % 2 === 0);
    return (job, options) => node.cloud.shrink(node.target(network), unwanted, job, options);
  },

  async "move there"(world) {
    const { there } = await twoNodes(world);
    return (job, options) => there.on.cloud.move(there.request, job, options);
  },

  async "move back"(world) {
    const { there, back } = await twoNodes(world);
    const { network } = await there.on.cloud.move(there.request, new RecordedJob("there"));
    const request = back(network);
    return (job, options) => there.on.cloud.move(request, job, options);
  },

  async "shrink, of an address that was moved here"(world) {
    const { there, back } = await twoNodes(world);
    const { network } = await there.on.cloud.move(there.request, new RecordedJob("there"));
    const { address, from } = back(network);
    return (job, options) => there.on.cloud.shrink(from, [address], job, options);
  },

  async fence(world) {
    const node = await NodeFixture.start(world);
    const target = node.target(await node.provision());
    return (job, options) => node.cloud.fence(target, job, options);
  },

  async release(world) {
    const node = await NodeFixture.start(world);
    const target = node.target(await node.provision());
    return (job, options) => node.cloud.release(target, job, options);
  },

  async "release, with one kept warm"(world) {
    const node = await NodeFixture.start(world);
    const target = { ...node.target(await node.provision()), keepWarm: 1 };
    return (job, options) => node.cloud.release(target, job, options);
  },

  async "provision of a subnet with a warm ENI"(world) {
    const last = await NodeFixture.start(world);
    const target = { ...last.target(await last.provision()), keepWarm: 1 };
    await last.cloud.release(target, last.job());
    const node = await NodeFixture.start(world, { node: "n2" });
    return (job, options) => node.cloud.provision(node.request, job, options);
  },
};

async function twoNodes(world: VolcengineWorld) {
  const from = await NodeFixture.start(world, { poolSize: 4 });
  const to = await NodeFixture.start(world, { node: "n2", subnet: world.block(1), poolSize: 4 });
  const [home, theirs] = [await from.provision(), await to.provision()];
  const [, address = ""] = home.addresses;
  const { tags } = from.request;
  const request: MoveRequest = {
    address,
    from: from.target(home),
    to: to.target(theirs),
    instance: to.request.instance,
    tags,
  };
  return {
    there: { on: to, request },
    back: (network: NodeNetwork): MoveRequest => ({
      address,
      from: { ...to.target(theirs), eniIDs: network.eniIDs, movedIn: [address] },
      to: { ...from.target(home), movedAway: [address] },
      instance: from.request.instance,
      tags,
    }),
  };
}

/** Everything there is, without the names that another order of requests gives. */
function stateOf(world: VolcengineWorld): unknown {
  const { enis, subnets } = world.simulator.describeState();
  const all = enis.flatMap((eni) => eni.addresses.map(({ address }) => address));
  expect(new Set(all).size).toBe(all.length);
  return {
    subnets: subnets.map(({ cidr, status }) => `${cidr} ${status}`).sort(),
    enis: enis
      .map(({ instanceID, status, subnet, tags, addresses }) => ({
        at: `${subnet} ${status} on ${instanceID} for ${tags["cocoon-net:instance"]}`,
        use: useOf({ tags }),
        addresses: addresses.map(({ address }) => address).sort(),
      }))
      .sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b))),
  };
}

// They only wait, each in a world of its own.
describe.concurrent.each(Object.entries(cases))("%s (G11)", (name, start) => {
  /** Makes a world ready, runs the job in some way, and gives the state that all ends in. */
  async function inWorld(run: (work: Work, world: VolcengineWorld) => Promise<void>): Promise<unknown> {
    await using world = await VolcengineWorld.open();
    await run(await start(world), world);
    const end = () => world.simulator.describeState().enis.every(({ status }) => !status.endsWith("ing"));
    await vi.waitUntil(end, { timeout: 20_000, interval: 2 });
    return stateOf(world);
  }

  // Catalogue 11. Guard: packages/cloud-volcengine/src/eni-changes.ts, change: after a lost answer the ENI is looked at
  // before anything is asked again.
  it("ends the same wherever it was stopped, and whichever answer was lost", {
    timeout: 240_000,
  }, async () => {
    let requests = 0;
    const model = await inWorld(async (work, world) => {
      const before = writes(world);
      await work(new RecordedJob(name), {});
      requests = writes(world) - before;
    });
    expect(requests).toBeGreaterThan(0);
    for (let n = 0; n < requests; n++) {
      for (const when of ["before", "after"] as const) {
        const state = await inWorld(async (work, world) => {
          const held = world.hold(n, when);
          const abort = new AbortController();
          const job = new DyingJob(name, abort.signal);
          const running = expect(work(job, { signal: abort.signal }), `${when} ${n}`).rejects.toThrow(
            "killed",
          );
          await held.reached;
          abort.abort(new Error("killed"));
          await running;
          held.end();
          await work(job.restarted(), {});
        });
        expect(state, `killed ${when} request ${n}`).toEqual(model);
      }
      for (const kind of ["lost-answer", "late-5xx", "error5xx"] as const satisfies FaultRule["kind"][]) {
        const state = await inWorld(async (work, world) => {
          world.simulator.injectFault({ kind, after: n });
          await work(new RecordedJob(name), {});
        });
        expect(state, `${kind} at request ${n}`).toEqual(model);
      }
    }
  });
});

function writes(world: VolcengineWorld): number {
  const calls = Object.entries(world.simulator.calls);
  return calls.reduce((sum, [action, count]) => (action.startsWith("Describe") ? sum : sum + count), 0);
}
