import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { describeError, InvalidError } from "@cocoon-net/core";
import { isMet, ratioOf } from "../figure.ts";
import { ProgressLines } from "../progress.ts";
import { formatTable } from "../table.ts";
import { type CloudBenchOptions, cloudBench } from "./bench.ts";
import { type PlatformName, platformNames } from "./platforms.ts";

const usage = `npm run bench:cloud -- [--platform ${platformNames.join("|")}] [--nodes N] [--pool-size N] [--quick] [--json FILE]`;

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
      platform: { type: "string" },
      nodes: { type: "string" },
      "pool-size": { type: "string" },
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return console.log(usage);
  const { platform, quick } = values;
  const nodes = countOf("--nodes", values.nodes, 200) ?? (quick ? 5 : 100);
  const poolSize = countOf("--pool-size", values["pool-size"], 140) ?? (quick ? 40 : 140);
  const options: CloudBenchOptions = {
    nodes: nodes === 1 ? [1] : [1, nodes],
    poolSize,
    ...(platform === undefined ? {} : { platforms: [platformName(platform)] }),
    progress: new ProgressLines((line) => console.error(line)),
  };
  const startedAt = performance.now();
  const { figures, notes, failures } = await cloudBench(options);
  const seconds = Math.round((performance.now() - startedAt) / 1_000);
  const { length: missed } = figures.filter((figure) => isMet(figure) === false);
  console.log(`\n${formatTable(figures, { subject: "cloud", beside: "least" })}\n`);
  for (const note of notes) console.log(note);
  console.log(`\n${seconds} s, in real time. ${missed} aims not met.${quick ? " Small sizes." : ""}`);
  for (const failure of failures) console.log(`could not be measured: ${failure}`);
  if (failures.length > 0) process.exitCode = 1;
  if (values.json === undefined) return;
  const rows = figures.map((figure) => ({ ...figure, ratio: ratioOf(figure), met: isMet(figure) }));
  writeFileSync(
    values.json,
    `${JSON.stringify({ seconds, figures: rows, notes, failures }, undefined, 2)}\n`,
  );
}

function platformName(text: string): PlatformName {
  const name = platformNames.find((each) => each === text);
  if (name !== undefined) return name;
  throw new InvalidError(`--platform ${text} is not known`, { hint: usage });
}

function countOf(flag: string, text: string | undefined, most: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= most) return value;
  throw new InvalidError(`${flag} ${text} is not a whole number from 1 to ${most}`, { hint: usage });
}
