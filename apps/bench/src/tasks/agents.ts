import { keys, pause, type Store } from "@cocoon-net/core";
import { countReceivedBytes } from "../received-bytes.ts";
import { nodeName } from "../synthetic-cluster.ts";
import { openStore, type Target } from "../target.ts";
import type { Task } from "../task.ts";

export interface AgentsParams {
  readonly target: Target;
  /** Numbers of the nodes. Each gets a connection and a watch of its own. */
  readonly nodes: readonly number[];
}

export interface AgentsResult {
  /** What all of them together had received: a moment of `Date.now()`, bytes on the wire, batches of the watches. */
  readonly samples: readonly { readonly at: number; readonly bytes: number; readonly batches: number }[];
  /** Watches that told of a change of their own key at the end: their silence before was not deafness. */
  readonly awake: number;
}

const sampleMs = 100;

/** Idle agents, each of which watches the key that says who owns its subnet. */
export const followOwnKeys: Task<AgentsParams, AgentsResult> = async ({ target, nodes }, context) => {
  const received = countReceivedBytes();
  const stop = new AbortController();
  const agents: Agent[] = [];
  for (const node of nodes) agents.push(await Agent.start(target, keys.subnet(nodeName(node)), stop.signal));
  context.stack.defer(async () => {
    stop.abort();
    await Promise.all(agents.map((agent) => agent.store[Symbol.asyncDispose]()));
  });
  await context.start();
  const samples: AgentsResult["samples"][number][] = [];
  const batchesOf = () => agents.reduce((sum, agent) => sum + agent.batches, 0);
  while (!context.finish.aborted) {
    samples.push({ at: Date.now(), bytes: received(), batches: batchesOf() });
    await pause(sampleMs, context.finish).catch(() => {});
  }
  const before = agents.map((agent) => agent.batches);
  for (const { store, key } of agents) await store.txn({ then: [{ put: key, value: '"10.64.0.0/24"' }] });
  const awake = () => agents.filter((agent, index) => agent.batches > (before[index] ?? 0)).length;
  const end = performance.now() + 60_000;
  while (awake() < agents.length && performance.now() < end) await pause(20);
  return { samples, awake: awake() };
};

class Agent {
  readonly store: Store;
  readonly key: string;
  batches = 0;

  private constructor(store: Store, key: string) {
    this.store = store;
    this.key = key;
  }

  static async start(target: Target, key: string, signal: AbortSignal): Promise<Agent> {
    const store = await openStore(target);
    const agent = new Agent(store, key);
    const { revision } = await store.get(key);
    void agent.#follow(revision, signal);
    return agent;
  }

  async #follow(fromRevision: number, signal: AbortSignal): Promise<void> {
    for await (const _ of this.store.watch(this.key, { fromRevision, signal })) this.batches += 1;
  }
}
