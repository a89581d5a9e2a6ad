import {
  cancelDrain,
  cancelMigration,
  pauseReclaim,
  requestDrain,
  requestMigration,
  resumeReclaim,
} from "@cocoon-net/controller";
import {
  ConflictError,
  decode,
  keys,
  leaseSchema,
  listAll,
  NotFoundError,
  pause,
  prefixes,
} from "@cocoon-net/core";
import type { ChaosContext, Fault } from "./disturbance.ts";
import type { ChaosGuest, ChaosNode } from "./machine.ts";

/** What operators ask for, whatever else goes on: moves, drains, pauses. */

/** A guest goes to another node with its address. The VM itself goes over when the address has, or some seconds later. */
export const moveGuest: Fault = async (context) => {
  const { cluster, dice, busy } = context;
  // Nothing is asked of the nodes themselves: those that something is done to are as good as the others.
  const all = cluster.nodes.flatMap((node) => node.guests.map((guest) => ({ node, guest })));
  const { node, guest } = dice.pick(all.filter((each) => !busy.has(each.guest.name))) ?? {};
  const to = dice.pick(cluster.nodes.filter((other) => other !== node));
  if (!guest || !to) return undefined;
  const move = await beginMove(context, guest, to);
  if (!move) return undefined;
  const isStopped = dice.roll() < 0.15;
  return {
    what: isStopped ? "moves, and is stopped" : "moves",
    on: guest.name,
    lastsMs: isStopped ? dice.between(0, 3_000) : 0,
    async end() {
      if (isStopped) await untilHeard(context, () => cancelMigration(cluster.store, move.ip));
      return move.follow();
    },
  };
};

/** A node is to leave, and stays after all; or its guests leave it, until it is drained, and then it joins again. */
export const drainNode: Fault = async (context) => {
  const { cluster, dice, recorder, busy } = context;
  const free = cluster.nodes.filter(({ name }) => !busy.has(name));
  const node = dice.pick(free);
  if (!node || free.length < 3 || node.guests.some(({ name }) => busy.has(name))) return undefined;
  const others = free.filter((other) => other !== node);
  const { store } = cluster;
  if (!(await accepted(requestDrain(store, node.name)))) return undefined;
  const stays = dice.roll() < 0.5;
  const left: ChaosGuest[] = [];
  const moves: Promise<string>[] = [];
  if (!stays) {
    for (const guest of [...node.guests]) {
      const to = dice.pick(others);
      const move = to && dice.roll() < 0.5 ? await beginMove(context, guest, to) : undefined;
      if (move) {
        const followed = move.follow();
        // It is looked at when the disturbance ends.
        followed.catch(() => {});
        moves.push(followed);
        continue;
      }
      recorder.note({ kind: "lease-end", at: Date.now(), guest: guest.name, reason: "gone" });
      await cluster.endGuest(guest, "SIGTERM");
      left.push(guest);
    }
  }
  return {
    what: stays ? "is to leave, and stays" : "is to leave",
    on: node.name,
    lastsMs: stays ? dice.between(1_000, 12_000) : 30_000,
    async end() {
      await Promise.all(moves);
      const stayed = await keep(context, node);
      for (const guest of left) await cluster.bootGuest(guest, true);
      return stayed ? "it stays" : "it has left, and joined again";
    },
  };
};

export const pauseFreeing: Fault = async (context) => {
  const { cluster, dice, busy } = context;
  if (busy.has("freeing") || !(await accepted(pauseReclaim(cluster.store, "chaos")))) return undefined;
  return {
    what: "paused",
    on: "freeing",
    lastsMs: dice.between(3_000, 20_000),
    async end() {
      await untilHeard(context, () => resumeReclaim(cluster.store));
      return undefined;
    },
  };
};

/** Takes back what was asked for and may have been heard, though the answer was lost. */
export async function withdrawRequests(context: Pick<ChaosContext, "cluster" | "signal">): Promise<void> {
  const { cluster } = context;
  await untilHeard(context, () => resumeReclaim(cluster.store));
  for (const node of cluster.nodes) await keep(context, node);
}

/** The node stays; false: it had been drained by then, and has joined again. */
async function keep(context: Pick<ChaosContext, "cluster" | "signal">, node: ChaosNode): Promise<boolean> {
  const { cluster } = context;
  try {
    await untilHeard(context, () => cancelDrain(cluster.store, node.name));
    return true;
  } catch (error) {
    if (!(error instanceof ConflictError || error instanceof NotFoundError)) throw error;
    await cluster.rejoin(node);
    return false;
  }
}

interface BegunMove {
  readonly ip: string;
  /** Until it is decided; the VM goes over when the address has. */
  follow(): Promise<string>;
}

/** Undefined when the cluster refuses it, or cannot be asked. */
async function beginMove(
  { cluster, dice, recorder, signal }: ChaosContext,
  guest: ChaosGuest,
  to: ChaosNode,
): Promise<BegunMove | undefined> {
  const { store } = cluster;
  const { mac } = guest;
  const ip = await addressOf();
  if (ip === undefined) return undefined;
  const move = await requestMigration(store, { ip, to: to.name }).catch(() => undefined);
  if (!move) return undefined;
  // A VM that stays behind for a while still asks its old node.
  const behindMs = dice.roll() < 0.7 ? 0 : dice.between(1_000, 8_000);
  return {
    ip,
    async follow() {
      for (;;) {
        const [lease, intent] = await untilHeard({ signal }, () =>
          Promise.all([store.get(keys.pool(ip)), store.get(keys.intent(move.intent))]),
        );
        const holder = lease.entry && decode(leaseSchema, lease.entry);
        if (holder?.node === to.name && holder.mac === mac) break;
        if (!intent.entry) return `${ip} stays at ${move.from}`;
        await pause(100, signal);
      }
      await pause(behindMs, signal);
      // It may have been lost with its node, and another VM have been booted in its place.
      if (guest.mac !== mac) return `${ip} is at ${to.name}; its guest is gone`;
      // Before it is plugged in there: what it is told from then on is its new node's.
      recorder.note({ kind: "placed", at: Date.now(), guest: guest.name, node: to.name });
      await cluster.replug(guest, to);
      return `${ip} has moved to ${to.name}`;
    },
  };

  async function addressOf(): Promise<string | undefined> {
    const leases = await listAll(store, prefixes.pool).catch(() => undefined);
    const entry = leases?.entries.find((each) => decode(leaseSchema, each).mac === mac);
    return entry?.key.slice(prefixes.pool.length);
  }
}

async function accepted(request: Promise<unknown>): Promise<boolean> {
  return request.then(
    () => true,
    () => false,
  );
}

/** As an operator who tries again while the store is away. @throws what the cluster itself says, or after a minute */
async function untilHeard<T>({ signal }: Pick<ChaosContext, "signal">, ask: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof ConflictError || error instanceof NotFoundError) throw error;
      if (performance.now() > deadline) throw error;
      await pause(500, signal);
    }
  }
}
