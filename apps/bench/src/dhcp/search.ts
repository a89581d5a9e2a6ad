/** What a rate has shown: `slips` may have been the machine's doing, `fails` was not. */
export type Verdict = "passes" | "slips" | "fails";

/** Steps between rates that are tried while all pass, or none does. */
const step = 1.12;
/** Two rates closer than this are one. */
const resolution = 1.06;

/** Looks for the highest rate that passes: from a guess upwards or downwards in growing steps, then by halves. */
export async function highestRate(
  guess: number,
  tryAt: (rate: number) => Promise<Verdict>,
  limits: { readonly least: number; readonly most: number },
): Promise<number> {
  const rounded = (rate: number) => Math.min(limits.most, Math.max(limits.least, Math.round(rate / 50) * 50));
  // One lost time slice on a busy machine is no limit of the server: what has just failed has to fail twice.
  const passes = async (rate: number): Promise<boolean> => {
    const verdict = await tryAt(rate);
    return verdict === "passes" || (verdict === "slips" && (await tryAt(rate)) === "passes");
  };
  let rate = rounded(guess);
  let good = 0;
  let bad = Number.POSITIVE_INFINITY;
  let factor = step;
  for (;;) {
    if (await passes(rate)) good = rate;
    else bad = rate;
    if (good >= limits.most || bad <= limits.least) return good;
    if (good > 0 && bad < Number.POSITIVE_INFINITY) {
      if (bad / good <= resolution) return good;
      rate = rounded(Math.sqrt(good * bad));
      if (rate === good || rate === bad) return good;
    } else {
      rate = rounded(good > 0 ? good * factor : bad / factor);
      factor *= factor;
    }
  }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

export function quantile(ascending: ArrayLike<number>, share: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * share))] ?? Number.NaN;
}
