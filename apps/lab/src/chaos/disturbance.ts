import type { ChaosCluster } from "./chaos-cluster.ts";
import type { Dice } from "./dice.ts";
import type { ChaosGuest, ChaosNode, Machine } from "./machine.ts";
import type { Recorder } from "./recorder.ts";

/** One that has been begun. */
export interface Disturbance {
  readonly what: string;
  readonly on: string;
  readonly lastsMs: number;
  /** @returns what came of it, where that is worth a word */
  end(): Promise<string | undefined>;
}

export interface ChaosContext {
  readonly cluster: ChaosCluster;
  readonly dice: Dice;
  readonly recorder: Recorder;
  readonly signal: AbortSignal;
  /** Names that something is being done to: they are left alone. */
  readonly busy: ReadonlySet<string>;
}

/** Begins what it is, on something that is free; undefined when nothing is. */
export type Fault = (context: ChaosContext) => Promise<Disturbance | undefined>;

export const nothing = async (): Promise<undefined> => undefined;

/** Shorter than a session, or long enough that the cloud is asked whether the node is dead: it is not (G5). */
export const shortOrLong = (dice: Dice): number =>
  dice.roll() < 0.7 ? dice.between(500, 6_000) : dice.between(12_000, 25_000);

export function freeMachines({ cluster, busy }: ChaosContext): Machine[] {
  return [...cluster.nodes, ...cluster.controllers].filter(({ name }) => !busy.has(name));
}

/** With the nodes that they are on, which are free, too. */
export function freeGuests({ cluster, busy }: ChaosContext): [ChaosNode, ChaosGuest][] {
  return cluster.nodes
    .filter(({ name }) => !busy.has(name))
    .flatMap((node) => node.guests.map((guest): [ChaosNode, ChaosGuest] => [node, guest]))
    .filter(([, { name }]) => !busy.has(name));
}
