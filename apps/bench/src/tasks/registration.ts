import { describeError, Registry } from "@cocoon-net/core";
import { type Calls, countCalls } from "../counting-store.ts";
import { openRawClient, type RawClient } from "../raw/client.ts";
import { subnetOf } from "../synthetic-cluster.ts";
import { openStore, type Side, type Target } from "../target.ts";
import type { Task, TaskContext } from "../task.ts";

export interface RegistrationParams {
  readonly target: Target;
  /** Another cluster, in which `warmUps` nodes register beforehand. */
  readonly warmUpTarget: Target;
  readonly warmUps: number;
  readonly side: Side;
  readonly nodes: readonly string[];
  /** Connections that the nodes share. */
  readonly handles: number;
  /** For the raw client, which knows no cluster config. */
  readonly slots: number;
}

export interface RegistrationResult {
  /** One for each node that got one, in no order. */
  readonly subnets: readonly string[];
  /** What became of the others. */
  readonly failures: readonly string[];
  readonly calls: Calls;
}

/** All nodes at once. */
export const registerNodes: Task<RegistrationParams, RegistrationResult> = async (params, context) => {
  const { target, warmUpTarget, warmUps, side, nodes, handles, slots } = params;
  const open = (where: Target) =>
    side === "ours" ? openOurs(where, context) : openRaw(where, slots, context);
  const warm = await open(warmUpTarget);
  await Promise.all(Array.from({ length: warmUps }, (_, index) => warm.register(`${process.pid}-${index}`)));
  const clients = await Promise.all(Array.from({ length: handles }, () => open(target)));
  await context.start();
  const failures: string[] = [];
  const subnets = await Promise.all(
    nodes.map(async (node, index) => {
      try {
        return await clients[index % clients.length]?.register(node);
      } catch (error) {
        failures.push(describeError(error));
        return undefined;
      }
    }),
  );
  const sum = (name: keyof Calls) => clients.reduce((total, { calls }) => total + calls[name], 0);
  return {
    subnets: subnets.filter((subnet) => subnet !== undefined),
    failures,
    calls: { reads: sum("reads"), writes: sum("writes") },
  };
};

/** One connection by which nodes register. */
interface Registrar {
  readonly calls: Calls;
  /** Answers the subnet. */
  register(node: string): Promise<string>;
}

async function openOurs(target: Target, { stack }: TaskContext): Promise<Registrar> {
  const { store, calls } = countCalls(stack.use(await openStore(target)));
  const registry = new Registry(store);
  return {
    calls,
    async register(node) {
      const { subnet } = await registry.register({ node, uid: `i-${node}`, agentVersion: "1.0.0" });
      return subnet;
    },
  };
}

async function openRaw(target: Target, slots: number, { stack }: TaskContext): Promise<Registrar> {
  const client = stack.use(await openRawClient(target));
  const calls: Calls = { reads: 0, writes: 0 };
  return { calls, register: (node) => registerRaw(client, node, slots, calls) };
}

/** Writes what the registry writes: the claim, the node's record, the slot, an event. */
async function registerRaw(client: RawClient, node: string, slots: number, calls: Calls): Promise<string> {
  const time = new Date().toISOString();
  const record = {
    uid: `i-${node}`,
    status: "ready",
    lastSeen: time,
    subnet: "10.64.0.0/24",
    eniIDs: [],
    agentVersion: "1.0.0",
  };
  const event = { time, type: "node-registered", node, message: `${node} (i-${node}) owns 10.64.0.0/24` };
  const { slot, tries } = await client.register(node, slots, [
    [`subnets/${node}`, '"10.64.0.0/24"'],
    [`nodes/${node}`, JSON.stringify(record)],
    [`events/${node}`, JSON.stringify(event)],
  ]);
  calls.writes += tries;
  return subnetOf(slot);
}
