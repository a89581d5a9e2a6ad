/** `npm run fuzz:dhcp -- --packets 10000000 [--seed N]`: exit 1 with the packet that breaks something. */
import { parseArgs } from "node:util";
import { fuzz } from "./fuzzer.ts";

const { values } = parseArgs({
  options: { packets: { type: "string", default: "1000000" }, seed: { type: "string" } },
});
const packets = Number(values.packets);
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed);
if (!Number.isSafeInteger(packets) || packets < 1 || !Number.isSafeInteger(seed)) {
  console.error("fuzz:dhcp takes --packets N and --seed N, whole numbers");
  process.exit(1);
}
const start = performance.now();
console.log(`${packets} packets of seed ${seed}`);
try {
  const report = fuzz(packets, seed, (done) => {
    if (done > 0 && done % 1_000_000 === 0)
      console.log(`${done} packets, ${megabytes(process.memoryUsage().rss)} resident`);
  });
  const seconds = (performance.now() - start) / 1000;
  console.table(report.outcomes);
  console.log(
    `${packets} packets in ${seconds.toFixed(1)} s (${Math.round(packets / seconds)}/s), ` +
      `heap ${megabytes(report.heap.early)} after a quarter, ${megabytes(report.heap.end)} at the end`,
  );
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
