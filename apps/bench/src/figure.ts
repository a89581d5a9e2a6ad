export type Unit = "ms" | "count" | "bytes" | "share" | "perSecond";

/** `most`: an absolute limit, in the figure's unit. `mostTimes`: a limit on ours ÷ raw. */
export type Aim = { readonly most: number } | { readonly mostTimes: number };

/** One line of the table. */
export interface Figure {
  readonly store: string;
  readonly what: string;
  readonly unit: Unit;
  readonly ours: number;
  /** The raw client's, for the same work in the same run. */
  readonly raw?: number;
  readonly aim?: Aim;
  /**
   * Processor time of clients and server for it, in milliseconds. Its ratio holds on a machine that is busy with
   * other things too, where that of the times does not.
   */
  readonly cpu?: { readonly ours: number; readonly raw: number };
}

export function ratioOf({ ours, raw }: Figure): number | undefined {
  return raw === undefined || raw === 0 ? undefined : ours / raw;
}

/** Undefined where there is no aim. */
export function isMet(figure: Figure): boolean | undefined {
  const { aim, ours } = figure;
  if (aim === undefined) return undefined;
  if ("most" in aim) return ours <= aim.most;
  const ratio = ratioOf(figure);
  return ratio === undefined ? undefined : ratio <= aim.mostTimes;
}
