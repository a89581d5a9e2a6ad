import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { describeError, InvalidError } from "@cocoon-net/core";
import { isMet, ratioOf } from "../figure.ts";
import { ProgressLines } from "../progress.ts";
import { formatTable } from "../table.ts";
import type { StoreKind } from "../target.ts";
import { controllerBench } from "./bench.ts";
import { fullSizes, quickSizes } from "./sizes.ts";

const usage = "npm run bench:controller -- [--store etcd|redis] [--quick] [--json FILE]";

/** The command. Exits 0 also when an aim is not met. */
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
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const { quick, store } = values;
  const startedAt = performance.now();
  const { figures, notes, failures } = await controllerBench({
    sizes: quick ? quickSizes : fullSizes,
    ...(store === undefined ? {} : { stores: [storeKind(store)] }),
    progress: new ProgressLines((line) => console.error(line)),
  });
  const seconds = Math.round((performance.now() - startedAt) / 1_000);
  const { length: missed } = figures.filter((figure) => isMet(figure) === false);
  console.log(`\n${formatTable(figures, { subject: "store", beside: "least" })}\n`);
  for (const note of notes) console.log(note);
  console.log(`\n${seconds} s. ${missed} aims not met.${quick ? " Small sizes." : ""}`);
  for (const failure of failures) console.log(`could not be measured: ${failure}`);
  if (failures.length > 0) process.exitCode = 1;
  if (values.json === undefined) return;
  const rows = figures.map((figure) => ({ ...figure, ratio: ratioOf(figure), met: isMet(figure) }));
  writeFileSync(
    values.json,
    `${JSON.stringify({ seconds, figures: rows, notes, failures }, undefined, 2)}\n`,
  );
}

function storeKind(text: string): StoreKind {
  if (text === "etcd" || text === "redis") return text;
  throw new InvalidError(`--store ${text} is not known`, { hint: usage });
}
