import {
  CocoonError,
  FencedError,
  initCluster,
  overlaps,
  parseCidr,
  Recovery,
  type Registration,
  Registry,
  type Store,
} from "@cocoon-net/core";
import fc from "fast-check";
import { expect, it } from "vitest";
import { endQuarantine, incarnationIn, requestOf, takeAway } from "./cluster-fixture.ts";
import { LossyDatabase } from "./lossy-database.ts";

/** By a clock of the test's own: nothing here takes real time but a few polls. */
const recoveryMs = 50;

type Step =
  | { readonly do: "join" | "leave" | "reclaim" | "return" | "sleep" | "wake"; readonly pick: number }
  | { readonly do: "cut" | "fail over" };

const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant("join" as const), pick: fc.nat({ max: 99 }) }) },
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constantFrom(...(["leave", "reclaim", "return", "sleep", "wake"] as const)),
        pick: fc.nat({ max: 99 }),
      }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("cut" as const, "fail over" as const) }) },
  ),
  { minLength: 5, maxLength: 40 },
);

it("no two nodes ever use one subnet, whatever a failover forgets (G1, G3, G5)", {
  timeout: 120_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (sequence) => {
      await using world = await World.open();
      for (const step of sequence) await world.follow(step);
    }),
    { numRuns: 150 },
  );
});

/** Nodes that are awake say within each window what they own; those that sleep do not. */
class World implements AsyncDisposable {
  readonly #database = new LossyDatabase();
  readonly #store: Store = this.#database.open();
  readonly #awake: Registration[] = [];
  readonly #asleep: Registration[] = [];
  /** Their instances are gone, and their blocks were given to others; their processes may still come back. */
  readonly #reclaimed: Registration[] = [];
  readonly #stop = new AbortController();
  #now = 0;
  #joined = 0;
  /** Whether something that was freed is about to be forgotten: then a node may meet the ghost of its former owner. */
  #ghosts = false;

  static async open(): Promise<World> {
    const world = new World();
    await initCluster(world.#store, { parentCIDR: "10.64.0.0/20", platform: "test", recoveryMs });
    return world;
  }

  async follow(step: Step): Promise<void> {
    switch (step.do) {
      case "cut":
        this.#database.cut();
        break;
      case "fail over":
        await this.#failOver();
        break;
      case "join": {
        const joined = await this.#join().catch((error: unknown) => this.#full(error));
        if (joined) this.#awake.push(joined);
        break;
      }
      default:
        await this.#move(step.do, step.pick);
    }
    this.#check();
  }

  async #move(how: "leave" | "reclaim" | "return" | "sleep" | "wake", pick: number): Promise<void> {
    const from = how === "return" ? this.#reclaimed : how === "wake" ? this.#asleep : this.#awake;
    const [node] = from.length > 0 ? from.splice(pick % from.length, 1) : [];
    if (!node) return;
    if (how === "sleep") this.#asleep.push(node);
    else if (how === "leave" || how === "reclaim") {
      this.#ghosts ||= this.#database.isCut;
      if (how === "leave") return node.leave();
      await takeAway(this.#store, node);
      await endQuarantine(this.#store, node.subnet);
      this.#reclaimed.push(node);
    } else if (await this.#proves(node)) this.#awake.push(node);
  }

  async #failOver(): Promise<void> {
    const before = this.#awake.length;
    this.#database.failOver();
    const joining = this.#join().catch((error: unknown) => this.#full(error));
    // Newcomers are faster than those that have something to say.
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    const observer = new Recovery(this.#store, { monotonic: () => this.#now });
    const proved = await Promise.all(this.#awake.map((node) => this.#proves(node)));
    // Those that are refused are refused for good only after the window.
    await this.#passWindow(observer);
    const [kept, doubtful] = [0, 1].map((part) => this.#awake.filter((_, i) => proved[i] === (part === 0)));
    this.#awake.splice(0, before, ...(kept ?? []));
    for (const node of doubtful ?? []) {
      const again = await this.#proves(node);
      expect(again, `${node.node} keeps what it lost before anybody could take it`).toBe(false);
    }
    if (!this.#ghosts) expect(this.#awake).toHaveLength(before);
    this.#ghosts = false;
    const joined = await joining;
    if (joined) this.#awake.push(joined);
  }

  async #passWindow(observer: Recovery): Promise<void> {
    for (let half = 0; half < 5; half++) {
      await observer.look();
      this.#now += recoveryMs / 2;
    }
    expect((await incarnationIn(this.#store)).recovering).toBe(false);
  }

  #join(): Promise<Registration> {
    const registry = new Registry(this.#store, { monotonic: () => this.#now });
    const request = requestOf(`n${this.#joined++}`);
    return registry.register(request, { maxWaitMs: 1e9, signal: this.#stop.signal });
  }

  #full(error: unknown): undefined {
    if (!(error instanceof CocoonError) || error.code !== "exhausted") throw error;
    return undefined;
  }

  async #proves(node: Registration): Promise<boolean> {
    try {
      await node.confirm();
      return true;
    } catch (error) {
      const refused =
        error instanceof FencedError || (error instanceof CocoonError && error.code === "conflict");
      if (!refused) throw error;
      return false;
    }
  }

  #check(): void {
    const blocks = this.#awake.map(({ subnet }) => parseCidr(subnet)).sort((a, b) => a.base - b.base);
    for (const [i, block] of blocks.entries()) {
      const next = blocks[i + 1];
      if (next) expect(overlaps(block, next)).toBe(false);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
  }
}
