/** Looks for the highest rate that passes: in large steps first, then once between the last two. */
export async function highestRate(
  guess: number,
  passes: (rate: number) => Promise<boolean>,
  limits: { readonly step: number; readonly least: number; readonly most: number },
): Promise<number> {
  const rounded = (rate: number) =>
    Math.min(limits.most, Math.max(limits.least, Math.round(rate / 100) * 100));
  // One lost time slice on a busy machine is no limit of the server: a rate has failed when it fails twice.
  const tried = async (rate: number) => (await passes(rate)) || (await passes(rate));
  let rate = rounded(guess);
  let good = 0;
  let bad = Number.POSITIVE_INFINITY;
  while (good === 0 || bad === Number.POSITIVE_INFINITY) {
    if (await tried(rate)) {
      good = rate;
      if (rate >= limits.most) return good;
      rate = rounded(rate * limits.step);
    } else {
      bad = rate;
      if (rate <= limits.least) return 0;
      rate = rounded(rate / limits.step);
    }
    if (rate === good || rate === bad) break;
  }
  const middle = rounded(Math.sqrt(good * bad));
  return middle > good && middle < bad && (await tried(middle)) ? middle : good;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

export function quantile(ascending: readonly number[], share: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * share))] ?? Number.NaN;
}
