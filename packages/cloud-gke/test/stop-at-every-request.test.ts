import { type GceLimits, RecordedJob, SimulatedCrash } from "@cocoon-net/cloud-testkit";
import type { CloudCallOptions, CloudJob, JobStep, MoveRequest, NodeResources } from "@cocoon-net/core";
import { DisposeStack, formatAddress } from "@cocoon-net/core";
import { expect, it, vi } from "vitest";
import type { GkeCloud } from "../src/gke-cloud.ts";
import { CuttingProxy } from "./cutting-proxy.ts";
import { GkeWorld, idOf, numberOf, patience } from "./gke-world.ts";

/** One case: a state to start from, a job to run on it, and the state that it ends in. */
interface Case {
  run(job: CloudJob, options: CloudCallOptions): Promise<unknown>;
  /** Aliases by instance, of all instances of the case. */
  expected(): Readonly<Record<string, readonly string[]>>;
}

/** A job that dies with its process: nothing is written down after that. */
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

class Bench implements AsyncDisposable {
  readonly world: GkeWorld;
  readonly proxy: CuttingProxy;
  readonly cloud: GkeCloud;
  readonly #opened: DisposeStack;
  #blocks = 0;

  private constructor(opened: DisposeStack, world: GkeWorld, proxy: CuttingProxy, cloud: GkeCloud) {
    this.#opened = opened;
    this.world = world;
    this.proxy = proxy;
    this.cloud = cloud;
  }

  static async open(limits: Partial<GceLimits> = {}): Promise<Bench> {
    const opened = new DisposeStack();
    const secondaryRanges = { "cocoon-pods": "172.16.0.0/12" };
    const world = opened.use(await GkeWorld.open({ secondaryRanges, limits }));
    const proxy = opened.use(await CuttingProxy.open(world.api));
    const env = { COCOON_NET_GCE_ENDPOINT: proxy.url };
    const cloud = await world.cloudOn(world.addInstance("watcher"), {}, { env });
    return new Bench(opened, world, proxy, cloud);
  }

  /** A block that no case had before. */
  block(): { readonly cidr: string; readonly address: (host: number) => string } {
    const base = 0xac100000 + 256 * this.#blocks++;
    return { cidr: `${formatAddress(base)}/24`, address: (host) => formatAddress(base + host) };
  }

  /** An instance with aliases of the pod range, and one of somebody else. */
  instanceWith(cidrs: readonly string[], subnetwork = "nodes"): string {
    const instance = this.world.simulator.addInstance({ subnetwork });
    for (const cidr of cidrs) {
      this.world.simulator.addAlias(instance.id, { cidr, rangeName: "cocoon-pods" });
    }
    return idOf(instance);
  }

  /** Runs the job of a new case each time: whole, then stopped at every request, in every way. */
  async tryAll(name: string, start: () => Case): Promise<void> {
    this.proxy.arm();
    await this.#finish(start(), (one) => one.run(new RecordedJob(`${name}-model`), {}));
    const requests = this.proxy.requests;
    expect(requests).toBeGreaterThan(2);
    for (let at = 0; at < requests; at++) {
      for (const where of ["before", "after"] as const) {
        // The process dies there, and the job is run again.
        await this.#finish(start(), async (one) => {
          const dying = new AbortController();
          const job = new DyingJob(`${name}-${where}-${at}`, dying.signal);
          this.proxy.arm({ at, where, onCut: () => dying.abort(new Error("died")) });
          const first = one.run(job, { signal: dying.signal });
          await expect(first, `${where} ${at}`).rejects.toThrow();
          this.proxy.arm();
          await one.run(job.restarted(), {});
        });
      }
      // It lives, and does not get the answer.
      await this.#finish(start(), async (one) => {
        this.proxy.arm({ at, where: "after", onCut: () => {} });
        await one.run(new RecordedJob(`${name}-lost-${at}`), {});
      });
    }
  }

  async #finish(one: Case, run: (one: Case) => Promise<unknown>): Promise<void> {
    await run(one);
    const wanted = one.expected();
    const found = Object.fromEntries(
      Object.keys(wanted).map((instanceID) => [instanceID, this.world.aliasesOf(instanceID)]),
    );
    expect(found).toEqual(wanted);
    const { operations, instances } = this.world.simulator.describeState();
    expect(operations.filter(({ status }) => status !== "DONE")).toEqual([]);
    // Nothing of the case anywhere else; and not in the way of the next.
    expect(instances.filter(({ nic }) => nic.aliases.length > 0).map(idOf)).toEqual(
      Object.keys(wanted).filter((instanceID) => (wanted[instanceID] ?? []).length > 0),
    );
    for (const instanceID of Object.keys(wanted)) this.world.deleteInstance(instanceID);
    const ids = new Set(Object.keys(wanted).map(numberOf));
    const gone = () => !this.world.simulator.describeState().instances.some(({ id }) => ids.has(id));
    await vi.waitUntil(gone, { ...patience, interval: 2 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened[Symbol.asyncDispose]();
  }
}

const ours = (...cidrs: string[]) => cidrs.map((cidr) => `cocoon-pods:${cidr}`);

const target = (node: string, instanceID: string, subnet: string): NodeResources => ({
  node,
  instanceID,
  subnet,
  eniIDs: [],
});

const identity = (instanceID: string) => ({
  instanceID,
  zone: "us-central1-a",
  region: "us-central1",
  network: "demo-project",
});

/** Addresses of a block without its host 1: /24 less one /32. */
const without1 = (address: (host: number) => string) =>
  [
    [0, 32],
    [2, 31],
    [4, 30],
    [8, 29],
    [16, 28],
    [32, 27],
    [64, 26],
    [128, 25],
  ].map(([host = 0, prefix]) => `${address(host)}/${prefix}`);

// They only wait, each in a world of its own.
const longMs = 240_000;

it.concurrent(
  "provision, with a range to be made and an earlier block to be taken off, ends as if it had not been stopped",
  async () => {
    await using bench = await Bench.open();
    let subnetworks = 0;
    await bench.tryAll("provision", () => {
      const n = ++subnetworks;
      const name = `nodes-${n}`;
      bench.world.simulator.addSubnetwork({ name, cidr: `10.${n}.0.0/24` });
      const subnet = `10.${n}.100.0/24`;
      const instanceID = bench.instanceWith([`10.${n}.200.0/24`], name);
      const request = { node: "n", instance: identity(instanceID), subnet, poolSize: 10, tags: {} };
      return {
        run: (job, options) => bench.cloud.provision(request, job, options),
        expected: () => ({ [instanceID]: ours(subnet) }),
      };
    });
  },
  longMs,
);

it.concurrent(
  "a move ends as if it had not been stopped",
  async () => {
    await using bench = await Bench.open();
    await bench.tryAll("move", () => {
      const [home, guest] = [bench.block(), bench.block()];
      const from = bench.instanceWith([home.cidr]);
      const to = bench.instanceWith([guest.cidr]);
      const request: MoveRequest = {
        address: home.address(1),
        from: target("n1", from, home.cidr),
        to: target("n2", to, guest.cidr),
        instance: identity(to),
        tags: {},
      };
      return {
        run: async (job, options) => {
          expect(await bench.cloud.move(request, job, options)).toMatchObject({ verified: true });
        },
        expected: () => ({
          [from]: ours(...without1(home.address)),
          [to]: ours(guest.cidr, `${home.address(1)}/32`),
        }),
      };
    });
  },
  longMs,
);

it.concurrent(
  "a move back ends as if it had not been stopped",
  async () => {
    await using bench = await Bench.open();
    await bench.tryAll("back", () => {
      const [home, guest] = [bench.block(), bench.block()];
      const from = bench.instanceWith([guest.cidr, `${home.address(1)}/32`]);
      const to = bench.instanceWith(without1(home.address));
      const request: MoveRequest = {
        address: home.address(1),
        from: { ...target("n2", from, guest.cidr), movedIn: [home.address(1)] },
        to: { ...target("n1", to, home.cidr), movedAway: [home.address(1)] },
        instance: identity(to),
        tags: {},
      };
      return {
        run: async (job, options) => {
          expect(await bench.cloud.move(request, job, options)).toMatchObject({ verified: true });
        },
        expected: () => ({ [from]: ours(guest.cidr), [to]: ours(home.cidr) }),
      };
    });
  },
  longMs,
);

it.concurrent.each(["fence", "release"] as const)(
  "%s ends as if it had not been stopped",
  async (verb) => {
    await using bench = await Bench.open();
    await bench.tryAll(verb, () => {
      const [own, other] = [bench.block(), bench.block()];
      const instanceID = bench.instanceWith([own.cidr, `${other.address(1)}/32`]);
      const neighbour = bench.instanceWith(without1(other.address));
      const resources = { ...target("n1", instanceID, own.cidr), movedIn: [other.address(1)] };
      return {
        run: async (job, options) => {
          const result = await bench.cloud[verb](resources, job, options);
          expect(result).toMatchObject(verb === "fence" ? { verified: true } : { remaining: [] });
        },
        expected: () => ({ [instanceID]: [], [neighbour]: ours(...without1(other.address)) }),
      };
    });
  },
  longMs,
);

it.concurrent(
  "a move that the cloud refuses at its last request is undone, wherever it was stopped",
  async () => {
    // Room for the two blocks, and for one of them in parts; not for the address at the target.
    await using bench = await Bench.open({ aliasRangesPerNetwork: 9 });
    await bench.tryAll("refused", () => {
      const [home, guest] = [bench.block(), bench.block()];
      const from = bench.instanceWith([home.cidr]);
      const to = bench.instanceWith([guest.cidr]);
      const request: MoveRequest = {
        address: home.address(1),
        from: target("n1", from, home.cidr),
        to: target("n2", to, guest.cidr),
        instance: identity(to),
        tags: {},
      };
      return {
        run: async (job, options) => {
          const failure = bench.cloud.move(request, job, options);
          await expect(failure).rejects.toThrow(
            options.signal === undefined ? /ALIASES_PER_NETWORK/ : /died/,
          );
          options.signal?.throwIfAborted();
        },
        expected: () => ({ [from]: ours(home.cidr), [to]: ours(guest.cidr) }),
      };
    });
  },
  longMs,
);
