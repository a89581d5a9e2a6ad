export { type BenchOptions, bench } from "./bench.ts";
export type { Figure } from "./figure.ts";
export { fullSizes, quickSizes, type Sizes } from "./sizes.ts";
