import { failingCloud, slowCloud } from "./cloud-faults.ts";
import type { Dice } from "./dice.ts";
import { type Fault, freeGuests, freeMachines, nothing, shortOrLong } from "./disturbance.ts";
import type { Cut } from "./machine.ts";
import { drainNode, moveGuest, pauseFreeing } from "./operator-faults.ts";

const killService: Fault = async (context) => {
  const { dice } = context;
  const machine = dice.pick(freeMachines(context));
  if (!machine) return undefined;
  const signal = dice.pick(["SIGKILL", "SIGKILL", "SIGTERM"] as const) ?? "SIGKILL";
  await machine.process.kill(signal);
  // A machine that is started with its clock ahead takes leases for ended: nothing can tell that from a long pause.
  await context.cluster.setClockBack(machine, dice.between(0, 60_000));
  return {
    what: `killed by ${signal}`,
    on: machine.name,
    lastsMs: shortOrLong(dice),
    end: async () => void machine.process.start(),
  };
};

const stopService: Fault = async (context) => {
  const machine = context.dice.pick(freeMachines(context));
  if (!machine) return undefined;
  machine.process.pause();
  const end = async (): Promise<undefined> => void machine.process.resume();
  return { what: "stopped", on: machine.name, lastsMs: shortOrLong(context.dice), end };
};

const partition: Fault = async (context) => {
  const { dice, cluster } = context;
  const machine = dice.pick(freeMachines(context));
  if (!machine) return undefined;
  const roll = dice.roll();
  const lost = dice.between(5, 40);
  const [what, cut]: [string, Cut] =
    roll < 0.3
      ? ["cut off from the store", { store: cluster.server.port }]
      : roll < 0.6
        ? ["cable out", "cable"]
        : ["loses packets", { lost: lost / 100 }];
  await cluster.cut(machine, cut);
  const end = async (): Promise<undefined> => void (await cluster.mend(machine, cut));
  return { what, on: machine.name, lastsMs: shortOrLong(dice), end };
};

const stepClock: Fault = async (context) => {
  const { dice, cluster } = context;
  const machine = dice.pick(freeMachines(context));
  if (!machine?.process.running) return undefined;
  const ms = dice.between(-600, 600) * 1_000;
  await cluster.setClock(machine, ms);
  // Its end is the next step.
  return { what: `clock ${ms < 0 ? "" : "+"}${ms / 1_000} s`, on: machine.name, lastsMs: 0, end: nothing };
};

const restartStore: Fault = async ({ dice, cluster, busy }) => {
  if (busy.has("store")) return undefined;
  const signal = dice.pick(["SIGKILL", "SIGTERM"] as const) ?? "SIGKILL";
  await cluster.server.stop(signal);
  const end = async (): Promise<undefined> => void (await cluster.server.start());
  return { what: `killed by ${signal}`, on: "store", lastsMs: dice.between(0, 6_000), end };
};

const stopStore: Fault = async ({ dice, cluster, busy }) => {
  if (busy.has("store")) return undefined;
  cluster.server.pause();
  const end = async (): Promise<undefined> => void cluster.server.resume();
  return { what: "stopped", on: "store", lastsMs: dice.between(500, 9_000), end };
};

/** Two nodes stay, so that there is somebody to take over what is free. */
const crashNode: Fault = async (context) => {
  const { dice, cluster, recorder, busy } = context;
  const { nodes } = cluster;
  const others = nodes.filter(({ name }) => busy.has(name)).length;
  const node = dice.pick(nodes.filter(({ name }) => !busy.has(name)));
  if (!node || nodes.length - others < 3) return undefined;
  const lost = await cluster.crash(node);
  // After the guests' end: whatever they did was before it.
  for (const { name } of lost) {
    recorder.note({ kind: "lease-end", at: Date.now(), guest: name, reason: "gone" });
  }
  recorder.note({ kind: "instance", at: Date.now(), node: node.name, running: false });
  return {
    what: "instance lost",
    on: node.name,
    lastsMs: dice.between(1_000, 30_000),
    async end() {
      await cluster.boot(node);
      recorder.note({ kind: "instance", at: Date.now(), node: node.name, running: true });
      await cluster.setClock(node, 0);
      await cluster.setUp(node);
      for (const guest of lost) await cluster.bootGuest(guest, true);
      return undefined;
    },
  };
};

const replaceGuest: Fault = async (context) => {
  const { dice, cluster, recorder } = context;
  const [, guest] = dice.pick(freeGuests(context)) ?? [];
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
  [6, partition],
  [3, stepClock],
  [2, restartStore],
  [1, stopStore],
  [3, crashNode],
  [8, replaceGuest],
  [8, moveGuest],
  [2, drainNode],
  [1, pauseFreeing],
  [3, failingCloud],
  [1, slowCloud],
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
