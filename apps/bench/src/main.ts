import { cpus, loadavg, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { InvalidError } from "@cocoon-net/core";
import { bench, type GroupName, groupNames } from "./bench.ts";
import { benchCommand, reportOutcome, storeKind } from "./bench-command.ts";
import { ProgressLines } from "./progress.ts";
import { fullSizes, quickSizes } from "./sizes.ts";

const usage = `npm run bench:store -- [--store etcd|redis] [--only ${groupNames.join("|")}] [--quick] [--json FILE]`;

export const main: (args: readonly string[]) => Promise<void> = benchCommand(run);

async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      store: { type: "string" },
      only: { type: "string" },
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const stores = values.store === undefined ? undefined : [storeKind(values.store, usage)];
  const groups = values.only === undefined ? undefined : values.only.split(",").map(groupName);
  const load = loadavg()[0] ?? 0;
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? "CPU"}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}, load ${load.toFixed(1)} at the start`;
  const startedAt = performance.now();
  const outcome = await bench({
    sizes: values.quick ? quickSizes : fullSizes,
    progress: new ProgressLines((line) => console.error(line)),
    ...(stores === undefined ? {} : { stores }),
    ...(groups === undefined ? {} : { groups }),
  });
  const seconds = Math.round((performance.now() - startedAt) / 1_000);
  const notes = [`${machine}. Clients and servers share the cores.`];
  reportOutcome({ ...outcome, notes }, { seconds, quick: values.quick, json: values.json });
}

function groupName(text: string): GroupName {
  const name = groupNames.find((each) => each === text);
  if (name !== undefined) return name;
  throw new InvalidError(`--only ${text} is not known`, { hint: usage });
}
