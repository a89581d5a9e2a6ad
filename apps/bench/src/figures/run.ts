import type { ClientProcess } from "../client-process.ts";
import type { Progress } from "../progress.ts";
import type { Sizes } from "../sizes.ts";
import type { StoreKind } from "../target.ts";

/** What every group of figures is made with. */
export interface Run {
  readonly kind: StoreKind;
  readonly sizes: Sizes;
  readonly processes: readonly ClientProcess[];
  readonly progress: Progress;
}

/** Connections of each client process, where many nodes share them. */
export const handles = 10;
