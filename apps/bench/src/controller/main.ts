import { parseArgs } from "node:util";
import { benchCommand, reportOutcome, storeKind } from "../bench-command.ts";
import { ProgressLines } from "../progress.ts";
import { controllerBench } from "./bench.ts";
import { fullSizes, quickSizes } from "./sizes.ts";

const usage = "npm run bench:controller -- [--store etcd|redis] [--quick] [--json FILE]";

export const main: (args: readonly string[]) => Promise<void> = benchCommand(run);

async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      store: { type: "string" },
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const { quick, store } = values;
  const startedAt = performance.now();
  const outcome = await controllerBench({
    sizes: quick ? quickSizes : fullSizes,
    ...(store === undefined ? {} : { stores: [storeKind(store, usage)] }),
    progress: new ProgressLines((line) => console.error(line)),
  });
  const seconds = Math.round((performance.now() - startedAt) / 1_000);
  reportOutcome(outcome, { seconds, quick, words: { subject: "store", beside: "least" }, json: values.json });
}
