import { writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { describeError, InvalidError } from "@cocoon-net/core";
import { bench, type GroupName, groupNames } from "./bench.ts";
import { isMet, ratioOf } from "./figure.ts";
import { ProgressLines } from "./progress.ts";
import { fullSizes, quickSizes } from "./sizes.ts";
import { formatTable } from "./table.ts";
import type { StoreKind } from "./target.ts";

const usage = `npm run bench:store -- [--store etcd|redis] [--only ${groupNames.join("|")}] [--quick] [--json FILE]`;

/** The command. Exits 0 also when an aim is not met: how fast a machine is decides no build. */
export async function main(args: readonly string[]): Promise<void> {
  try {
    await run(args);
  } catch (error) {
    console.error(describeError(error));
    process.exitCode = 1;
  }
}

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
  const stores = values.store === undefined ? undefined : [storeKind(values.store)];
  const groups = values.only === undefined ? undefined : values.only.split(",").map(groupName);
  const load = loadavg()[0] ?? 0;
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? "CPU"}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}, load ${load.toFixed(1)} at the start`;
  const startedAt = performance.now();
  const { figures, failures } = await bench({
    sizes: values.quick ? quickSizes : fullSizes,
    progress: new ProgressLines((line) => console.error(line)),
    ...(stores === undefined ? {} : { stores }),
    ...(groups === undefined ? {} : { groups }),
  });
  const seconds = Math.round((performance.now() - startedAt) / 1_000);
  console.log(`\n${machine}. Clients and servers share the cores.${values.quick ? " Small sizes." : ""}\n`);
  console.log(formatTable(figures));
  console.log(`\n${seconds} s. ${figures.filter((figure) => isMet(figure) === false).length} aims not met.`);
  for (const failure of failures) console.log(`could not be measured: ${failure}`);
  if (failures.length > 0) process.exitCode = 1;
  if (values.json === undefined) return;
  const rows = figures.map((figure) => ({ ...figure, ratio: ratioOf(figure), met: isMet(figure) }));
  writeFileSync(
    values.json,
    `${JSON.stringify({ machine, seconds, figures: rows, failures }, undefined, 2)}\n`,
  );
}

function storeKind(text: string): StoreKind {
  if (text === "etcd" || text === "redis") return text;
  throw new InvalidError(`--store ${text} is not known`, { hint: usage });
}

function groupName(text: string): GroupName {
  const name = groupNames.find((each) => each === text);
  if (name !== undefined) return name;
  throw new InvalidError(`--only ${text} is not known`, { hint: usage });
}
