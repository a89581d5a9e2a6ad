import { readFile, rm } from "node:fs/promises";
import { delimiter } from "node:path";
import { describeError, InvalidError, UnavailableError } from "@cocoon-net/core";
import { Command, Option } from "commander";
import type { StoreKind } from "../access.ts";
import { ip } from "../namespaces/ip-command.ts";
import { removeNamespaces } from "../namespaces/namespaces.ts";
import { Stage } from "../stage.ts";
import { checkHistory } from "./check-history.ts";
import { fromLines, type HistoryEntry, historyFile, storeFile } from "./history.ts";
import { makeRunDirectory, removeLeftovers, runPrefix } from "./leftovers.ts";
import { summary } from "./summary.ts";

interface ChaosFlags {
  readonly minutes: string;
  readonly seed?: string;
  readonly store: StoreKind;
  readonly keep: boolean;
  readonly check?: string;
  /** Set for the process inside the fabric's namespace. */
  readonly inside?: string;
  readonly directory?: string;
}

/** What a run may take beside the time in which the cluster is disturbed: then it is ended; then it is killed. */
const moreMinutes = { asked: 6, killed: 7 } as const;

/** `npm run chaos`. Exit code 1 when the history breaks a guarantee, or the cluster does not come to rest. */
export async function main(argv: readonly string[]): Promise<void> {
  const program = new Command("chaos")
    .description("disturb a whole cluster of real processes, then check what everybody has said")
    .option("--minutes <count>", "how long it is disturbed", "1")
    .option("--seed <number>", "of what is done to what, and when")
    .addOption(new Option("--store <kind>", "the cluster's store").choices(["etcd", "redis"]).default("etcd"))
    .option("--keep", "keep logs and history also when nothing is wrong", false)
    .option("--check <file>", "only check a history that was kept")
    .addOption(new Option("--inside <prefix>").hideHelp())
    .addOption(new Option("--directory <path>").hideHelp())
    .parse(argv);
  // Where `ip` and its like are on Debian; a user's PATH does not have them.
  process.env.PATH = [process.env.PATH, "/usr/sbin", "/sbin"].join(delimiter);
  try {
    process.exitCode = await run(argv, program.opts<ChaosFlags>());
  } catch (error) {
    console.error(`chaos: ${describeError(error)}`);
    process.exitCode = 1;
  }
  // Whatever a broken part left behind shall not keep this process up.
  setTimeout(() => process.exit(), 1_000).unref();
}

async function run(argv: readonly string[], flags: ChaosFlags): Promise<number> {
  if (flags.check !== undefined) return report(fromLines(await readFile(flags.check, "utf8")));
  const minutes = numberOf("--minutes", flags.minutes, 600);
  const seed = flags.seed === undefined ? Date.now() % 1e9 : numberOf("--seed", flags.seed, 2 ** 32);
  const { inside, directory } = flags;
  if (inside !== undefined && directory !== undefined) {
    return play({ prefix: inside, directory, store: flags.store, minutes, seed });
  }
  if (process.getuid?.() !== 0) {
    throw new InvalidError("network namespaces are made by root only", { hint: "run it as root" });
  }
  return outside(argv[1] ?? "", flags, minutes, seed);
}

/** Makes the first namespace and a directory, plays inside, and cleans up whatever became of it. */
async function outside(script: string, flags: ChaosFlags, minutes: number, seed: number): Promise<number> {
  using stage = new Stage();
  await removeLeftovers();
  const prefix = runPrefix(process.pid);
  const directory = await makeRunDirectory();
  let code = 1;
  try {
    await ip("netns", "add", `${prefix}-fabric`);
    code = await stage.run(
      [
        ...["nsenter", `--net=/run/netns/${prefix}-fabric`, "setpriv", "--pdeathsig", "TERM"],
        ...[process.execPath, script, "--inside", prefix, "--directory", directory],
        ...["--store", flags.store, "--minutes", String(minutes), "--seed", String(seed)],
      ],
      { graceMs: 20_000, limitMs: (minutes + moreMinutes.killed) * 60_000 },
    );
    return code;
  } finally {
    await removeNamespaces(prefix);
    if (code === 0 && !flags.keep) await rm(directory, { recursive: true, force: true });
    else
      console.log(
        `kept: ${directory} (${historyFile}, logs, ${storeFile} where it is not at rest; check it again with --check)`,
      );
  }
}

async function play(options: {
  readonly prefix: string;
  readonly directory: string;
  readonly store: StoreKind;
  readonly minutes: number;
  readonly seed: number;
}): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stop.abort());
  const late = new UnavailableError("the run takes too long", { outcome: "none" });
  setTimeout(() => stop.abort(late), (options.minutes + moreMinutes.asked) * 60_000).unref();
  const { runChaos } = await import("./run.ts");
  console.log(`chaos: ${options.minutes} min on ${options.store}, --seed ${options.seed}`);
  const { history, unrest } = await runChaos({ ...options, signal: stop.signal, tell: console.log });
  const code = report(history);
  if (unrest !== "") console.log(`the cluster did not come to rest: ${unrest}`);
  return unrest === "" ? code : 1;
}

function report(history: readonly HistoryEntry[]): number {
  const violations = checkHistory(history);
  console.log(summary(history));
  for (const { kind, at, message } of violations) {
    console.log(`${kind}: ${new Date(at).toISOString()} ${message}`);
  }
  console.log(violations.length === 0 ? "no guarantee is broken" : `${violations.length} violations`);
  return violations.length === 0 ? 0 : 1;
}

function numberOf(flag: string, text: string, most: number): number {
  const value = Number(text);
  if (text !== "" && value > 0 && value <= most) return value;
  throw new InvalidError(`${flag} ${text} is not a number above 0, up to ${most}`);
}
