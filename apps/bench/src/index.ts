export { type BenchOptions, type BenchResult, bench } from "./bench.ts";
export type { Figure } from "./figure.ts";
export { fullSizes, quickSizes, type Sizes } from "./sizes.ts";
