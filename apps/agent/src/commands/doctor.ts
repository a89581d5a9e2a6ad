import { CocoonError, counted, describeError, NotFoundError } from "@cocoon-net/core";
import type { CommandContext } from "../command-context.ts";
import { cloud, store } from "../doctor/cluster-checks.ts";
import { type Diagnosis, ok, problem, warning } from "../doctor/diagnosis.ts";
import {
  bridgeLink,
  clock,
  dhcpPort,
  disk,
  iptables,
  kernel,
  metricsPort,
  rights,
  sysctls,
} from "../doctor/host-checks.ts";
import { detectPlatform } from "../drivers.ts";
import { checkPool } from "../node-plan.ts";
import { formatData } from "../output.ts";
import type { OutputFormat } from "../output-format.ts";
import { runningDaemon } from "../pid-file.ts";
import { type PoolFile, type RegistrationFile, StateDirectory } from "../state-directory.ts";

export interface DoctorFlags {
  readonly stateDir: string;
  readonly platform?: string | undefined;
  readonly store?: string | undefined;
  readonly metricsAddr: string;
  readonly pidFile: string;
  readonly output: OutputFormat;
}

/** One check never keeps the others waiting longer. */
const checkTimeoutMs = 15_000;

/** Looks at all that a node needs; changes nothing. Exit code 1 when there is a problem. */
export async function doctor(flags: DoctorFlags, context: CommandContext): Promise<void> {
  const state = new StateDirectory(flags.stateDir);
  const found: Diagnosis[] = [];
  const { pool, registered } = await readNode(state, found);
  const daemon = await runningDaemon(flags.pidFile);
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(checkTimeoutMs)]);
  const checks: readonly (readonly [
    name: string,
    Diagnosis | Promise<Diagnosis> | AsyncIterable<Diagnosis>,
  ])[] = [
    ["daemon", daemonState(pool, daemon)],
    ["rights", rights()],
    ["kernel", kernel()],
    ["bridge", bridgeLink(pool, daemon !== undefined)],
    ["sysctls", sysctls(daemon !== undefined)],
    ["iptables", iptables(signal)],
    ["DHCP port", dhcpPort(daemon)],
    ["metrics port", metricsPort(flags.metricsAddr, daemon)],
    ["disk", disk(flags.stateDir)],
    ["clock", clock()],
    ["store", store(flags.store, pool, registered, { signal, drivers: context.drivers })],
    ["cloud", cloudOf(flags.platform ?? pool?.platform, signal, context)],
  ];
  const results = await Promise.all(checks.map(async ([name, check]) => await collect(name, check)));
  context.signal.throwIfAborted();
  found.push(...results.flat());
  context.print(flags.output === "table" ? describe(found) : formatData(found, flags.output));
  const problems = found.filter((one) => one.state === "problem").length;
  if (problems > 0)
    throw new CocoonError("unhealthy", `${problems} of ${counted(found.length, "check")} found a problem`);
}

async function readNode(
  state: StateDirectory,
  found: Diagnosis[],
): Promise<{ readonly pool?: PoolFile; readonly registered?: RegistrationFile | undefined }> {
  const check = "node";
  try {
    const pool = await state.readPool();
    checkPool(pool, state.poolPath);
    const registered = await state.readRegistration();
    const { nodeName, subnet, ips } = pool;
    const how = `${nodeName}: ${counted(ips.length, "address", "addresses")} of ${subnet}`;
    found.push(ips.length > 0 ? ok(check, how) : warning(check, how, "init did not finish; run it again"));
    return { pool, registered };
  } catch (error) {
    found.push(
      error instanceof NotFoundError
        ? warning(check, `${state.path} has no pool.json`, "set the node up with init or adopt")
        : problem(check, describeError(error), "mend the file or move it away, then run init or adopt"),
    );
    return {};
  }
}

function daemonState(pool: PoolFile | undefined, daemon: number | undefined): Diagnosis {
  if (daemon !== undefined) return ok("daemon", `runs (pid ${daemon})`);
  return pool === undefined
    ? ok("daemon", "does not run")
    : warning("daemon", "does not run", "start it: `systemctl start cocoon-net`, or `cocoon-net daemon`");
}

async function* cloudOf(
  known: string | undefined,
  signal: AbortSignal,
  context: CommandContext,
): AsyncGenerator<Diagnosis, void> {
  let platform = known;
  if (platform === undefined) {
    try {
      platform = await detectPlatform(signal);
    } catch (error) {
      const found = error instanceof Error ? error.message : String(error);
      yield warning("metadata", found, "say which cloud this is with --platform");
      return;
    }
  }
  yield* cloud(platform, { signal, drivers: context.drivers });
}

async function collect(
  name: string,
  check: Diagnosis | Promise<Diagnosis> | AsyncIterable<Diagnosis>,
): Promise<Diagnosis[]> {
  const found: Diagnosis[] = [];
  try {
    if (Symbol.asyncIterator in check) for await (const one of check) found.push(one);
    else found.push(await check);
  } catch (error) {
    found.push(problem(name, describeError(error), "mend that, then look again"));
  }
  return found;
}

/** One line a check, and one more for what to do. */
function describe(found: readonly Diagnosis[]): string {
  const marks = { ok: "ok", warning: "WARNING", problem: "PROBLEM" };
  const width = Math.max(...found.map(({ check }) => check.length)) + 2;
  return found
    .flatMap(({ check, state, found: what, fix }) => [
      `${marks[state].padEnd(9)}${check.padEnd(width)}${what}`,
      ...(fix === undefined ? [] : [`${" ".repeat(9 + width)}→ ${fix}`]),
    ])
    .join("\n");
}
