import { parseArgs } from "node:util";
import { InvalidError } from "@cocoon-net/core";
import { benchCommand, reportOutcome } from "../bench-command.ts";
import { ProgressLines } from "../progress.ts";
import { type CloudBenchOptions, cloudBench } from "./bench.ts";
import { type PlatformName, platformNames } from "./platforms.ts";

const usage = `npm run bench:cloud -- [--platform ${platformNames.join("|")}] [--nodes N] [--pool-size N] [--quick] [--json FILE]`;

export const main: (args: readonly string[]) => Promise<void> = benchCommand(run);

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
  const outcome = await cloudBench(options);
  const seconds = Math.round((performance.now() - startedAt) / 1_000);
  reportOutcome(outcome, { seconds, quick, words: { subject: "cloud", beside: "least" }, json: values.json });
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
