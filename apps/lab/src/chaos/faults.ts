import type { ChaosCluster, ChaosGuest, ChaosNode, Machine } from "./chaos-cluster.ts";
import type { Dice } from "./dice.ts";
import type { Recorder } from "./recorder.ts";

/** One that has been begun. */
export interface Disturbance {
  readonly what: string;
  readonly on: string;
  readonly lastsMs: number;
  end(): Promise<void>;
}

export interface ChaosContext {
  readonly cluster: ChaosCluster;
  readonly dice: Dice;
  readonly recorder: Recorder;
  /** Names that something is being done to: they are left alone. */
  readonly busy: ReadonlySet<string>;
}

/** Begins what it is, on something that is free; undefined when nothing is. */
export type Fault = (context: ChaosContext) => Promise<Disturbance | undefined>;

const nothing = async (): Promise<void> => {};

/** Shorter than a session, or long enough that the cloud is asked whether the node is dead: it is not (G5). */
const shortOrLong = (dice: Dice): number =>
  dice.roll() < 0.7 ? dice.between(500, 6_000) : dice.between(12_000, 25_000);

function machines({ cluster, busy }: ChaosContext): Machine[] {
  return [...cluster.nodes, ...cluster.controllers].filter(({ name }) => !busy.has(name));
}

function guests({ cluster, busy }: ChaosContext): [ChaosNode, ChaosGuest][] {
  return cluster.nodes
    .filter(({ name }) => !busy.has(name))
    .flatMap((node) => node.guests.map((guest): [ChaosNode, ChaosGuest] => [node, guest]));
}

const killService: Fault = async (context) => {
  const { dice } = context;
  const machine = dice.pick(machines(context));
  if (!machine) return undefined;
  const signal = dice.pick(["SIGKILL", "SIGKILL", "SIGTERM"] as const) ?? "SIGKILL";
  await machine.process.kill(signal);
  // A machine that is started with its clock ahead takes leases for ended: nothing can tell that from a long pause.
  await context.cluster.stepClock(machine, -dice.between(0, 300_000));
  return {
    what: `killed by ${signal}`,
    on: machine.name,
    lastsMs: shortOrLong(dice),
    end: async () => machine.process.start(),
  };
};

const stopService: Fault = async (context) => {
  const machine = context.dice.pick(machines(context));
  if (!machine) return undefined;
  machine.process.pause();
  const end = async (): Promise<void> => machine.process.resume();
  return { what: "stopped", on: machine.name, lastsMs: shortOrLong(context.dice), end };
};

const partition: Fault = async (context) => {
  const { dice, cluster } = context;
  const machine = dice.pick(machines(context));
  if (!machine) return undefined;
  const what = dice.pick(["store", "cable"] as const) ?? "store";
  await cluster.cut(machine, what);
  return {
    what: what === "store" ? "cut off from the store" : "cable out",
    on: machine.name,
    lastsMs: shortOrLong(dice),
    end: () => cluster.mend(machine, what),
  };
};

const stepClock: Fault = async (context) => {
  const { dice, cluster } = context;
  const machine = dice.pick(machines(context));
  if (!machine?.process.running) return undefined;
  const ms = dice.between(-600, 600) * 1_000;
  await cluster.stepClock(machine, ms);
  // Its end is the next step.
  return { what: `clock ${ms < 0 ? "" : "+"}${ms / 1_000} s`, on: machine.name, lastsMs: 0, end: nothing };
};

const restartStore: Fault = async ({ dice, cluster, busy }) => {
  if (busy.has("store")) return undefined;
  const signal = dice.pick(["SIGKILL", "SIGTERM"] as const) ?? "SIGKILL";
  await cluster.server.stop(signal);
  const end = (): Promise<void> => cluster.server.start();
  return { what: `killed by ${signal}`, on: "store", lastsMs: dice.between(0, 6_000), end };
};

const stopStore: Fault = async ({ dice, cluster, busy }) => {
  if (busy.has("store")) return undefined;
  cluster.server.pause();
  const end = async (): Promise<void> => cluster.server.resume();
  return { what: "stopped", on: "store", lastsMs: dice.between(500, 9_000), end };
};

/** Two nodes stay, so that there is somebody to take over what is free. */
const crashNode: Fault = async (context) => {
  const { dice, cluster, recorder, busy } = context;
  const { nodes } = cluster;
  const others = nodes.filter(({ name }) => busy.has(name)).length;
  const node = dice.pick(nodes.filter(({ name }) => !busy.has(name)));
  if (!node || nodes.length - others < 3) return undefined;
  await cluster.crash(node);
  // After the guests' end: whatever they did was before it.
  for (const { name } of node.guests) {
    recorder.note({ kind: "lease-end", at: Date.now(), guest: name, reason: "gone" });
  }
  recorder.note({ kind: "instance", at: Date.now(), node: node.name, running: false });
  return {
    what: "instance lost",
    on: node.name,
    lastsMs: dice.between(1_000, 30_000),
    async end() {
      cluster.fabric.simulator.startInstance(node.instanceID);
      recorder.note({ kind: "instance", at: Date.now(), node: node.name, running: true });
      await cluster.stepClock(node, 0);
      await cluster.setUp(node);
      for (const guest of node.guests) await cluster.bootGuest(guest, true);
    },
  };
};

const replaceGuest: Fault = async (context) => {
  const { dice, cluster, recorder } = context;
  const [, guest] = dice.pick(guests(context)) ?? [];
  if (!guest) return undefined;
  const signal = dice.pick(["SIGTERM", "SIGKILL"] as const) ?? "SIGKILL";
  const another = dice.roll() < 0.6;
  const at = Date.now();
  await cluster.endGuest(guest, signal);
  // One that gives its lease back holds nothing from then on, one that is killed not after.
  recorder.note({
    kind: "lease-end",
    at: signal === "SIGTERM" ? at : Date.now(),
    guest: guest.name,
    reason: "gone",
  });
  await cluster.bootGuest(guest, another);
  const what = `${signal === "SIGTERM" ? "leaves" : "is killed"}, ${another ? "another" : "the same"} boots`;
  return { what, on: guest.name, lastsMs: 0, end: nothing };
};

/** By how often each comes. */
export const faults: readonly (readonly [weight: number, fault: Fault])[] = [
  [5, killService],
  [4, stopService],
  [4, partition],
  [3, stepClock],
  [2, restartStore],
  [1, stopStore],
  [3, crashNode],
  [8, replaceGuest],
];

export function pickFault(dice: Dice): Fault {
  const total = faults.reduce((sum, [weight]) => sum + weight, 0);
  let left = dice.roll() * total;
  for (const [weight, fault] of faults) {
    left -= weight;
    if (left < 0) return fault;
  }
  return replaceGuest;
}
