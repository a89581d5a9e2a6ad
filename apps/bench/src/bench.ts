import { describeError } from "@cocoon-net/core";
import { ClientProcess } from "./client-process.ts";
import type { Figure } from "./figure.ts";
import { heartbeatFigures } from "./figures/heartbeats.ts";
import { leaseFigures } from "./figures/leases.ts";
import { recoveryFigures } from "./figures/recovery.ts";
import { registrationFigures } from "./figures/registration.ts";
import type { Run } from "./figures/run.ts";
import { watchFigures } from "./figures/watching.ts";
import { type Progress, silent } from "./progress.ts";
import type { Sizes } from "./sizes.ts";
import type { StoreKind } from "./target.ts";

export type GroupName = "registration" | "leases" | "watch" | "heartbeats" | "recovery";
export const groupNames: readonly GroupName[] = ["registration", "leases", "watch", "heartbeats", "recovery"];

const groups: Readonly<Record<GroupName, (run: Run) => Promise<Figure[]>>> = {
  registration: registrationFigures,
  leases: leaseFigures,
  watch: watchFigures,
  heartbeats: heartbeatFigures,
  recovery: recoveryFigures,
};

export interface BenchOptions {
  readonly sizes: Sizes;
  /** Default both. */
  readonly stores?: readonly StoreKind[];
  /** Default all. */
  readonly groups?: readonly GroupName[];
  /** Default silent. */
  readonly progress?: Progress;
}

export interface BenchResult {
  readonly figures: readonly Figure[];
  /** Groups of figures that could not be made, each with the reason in one line. */
  readonly failures: readonly string[];
}

/** Makes the figures one after another, each on a server of its own. */
export async function bench(options: BenchOptions): Promise<BenchResult> {
  const { sizes, stores = ["etcd", "redis"], progress = silent } = options;
  const figures: Figure[] = [];
  const failures: string[] = [];
  const start = () => Array.from({ length: sizes.processes }, () => new ClientProcess());
  const end = (running: readonly ClientProcess[]) =>
    Promise.all(running.map((process) => process[Symbol.asyncDispose]()));
  let processes = start();
  try {
    for (const kind of stores) {
      for (const name of options.groups ?? groupNames) {
        try {
          figures.push(...(await groups[name]({ kind, sizes, processes, progress })));
        } catch (error) {
          failures.push(`${kind}, ${name}: ${describeError(error)}`);
          progress.part(failures.at(-1) ?? "");
          // They may still be busy with what failed.
          await end(processes);
          processes = start();
        }
      }
    }
  } finally {
    await end(processes);
  }
  return { figures, failures };
}
