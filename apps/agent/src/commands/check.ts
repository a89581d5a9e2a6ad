import { type CheckReport, checkCluster, type Finding, planRepair, runRepair } from "@cocoon-net/controller";
import { CocoonError, counted, DisposeStack, InvalidError, pause, type Store } from "@cocoon-net/core";
import { cloudBudget } from "../cloud-config.ts";
import { openCluster } from "../cluster-views/show.ts";
import type { CommandContext } from "../command-context.ts";
import { OpenClouds } from "../open-clouds.ts";
import { formatData } from "../output.ts";
import type { OutputFormat } from "../output-format.ts";

export interface CheckFlags {
  readonly store: string;
  readonly output: OutputFormat;
  readonly cloud: boolean;
}

/** Holds store, clouds and nodes against each other; changes nothing. Exit code 1 on any finding. */
export async function clusterCheck(flags: CheckFlags, context: CommandContext): Promise<void> {
  await using parts = new DisposeStack();
  const store = parts.use(await openCluster(flags.store, context));
  const report = await check(
    store,
    parts.use(new OpenClouds(context.drivers, { budget: cloudBudget(context.cloud) })),
    flags,
    context,
  );
  context.print(flags.output === "table" ? describe(report) : formatData(report, flags.output));
  const { findings, unchecked } = report;
  if (findings.length > 0) throw new CocoonError("unsound", counted(findings.length, "finding"));
  if (unchecked.length > 0 && flags.cloud) {
    throw new CocoonError("unchecked", `${counted(unchecked.length, "thing")} could not be looked at`);
  }
}

export interface RepairFlags {
  readonly store: string;
  readonly cloud: boolean;
  readonly dryRun: boolean;
  readonly yes: boolean;
  /** Milliseconds between the two checks that have to agree. */
  readonly between: number;
}

/** Shows what would mend the findings that two checks agree on, and, when that is confirmed, has the leader do it. */
export async function clusterRepair(flags: RepairFlags, context: CommandContext): Promise<void> {
  await using parts = new DisposeStack();
  const store = parts.use(await openCluster(flags.store, context));
  const clouds = parts.use(new OpenClouds(context.drivers, { budget: cloudBudget(context.cloud) }));
  context.say("first check");
  const first = await check(store, clouds, flags, context);
  if (first.findings.length === 0) return context.print("nothing is to be repaired");
  context.say(`${counted(first.findings.length, "finding")}; looking again in ${flags.between / 1_000} s`);
  await pause(flags.between, context.signal);
  const plan = planRepair(first, await check(store, clouds, flags, context));
  for (const { finding, why } of plan.left)
    context.print(`left     ${finding.subject}: ${finding.message} (${why})`);
  for (const { code, subject, action } of plan.actions)
    context.print(`repair   ${subject}: ${code}: ${action.do}`);
  if (plan.actions.length === 0) return context.print("nothing is to be repaired that two checks agree on");
  if (flags.dryRun) return;
  await confirm(plan.actions.length, flags, context);
  if ((await store.get("leader", context)).entry === undefined) {
    context.say("no controller leads: the repair begins when one does; Ctrl-C leaves it to that");
  }
  const { repaired, skipped } = await runRepair(store, plan, {
    signal: context.signal,
    onEvent: ({ message }) => context.say(message),
  });
  context.print(`repaired ${repaired.length}, left ${skipped.length} that had changed meanwhile`);
}

async function check(
  store: Store,
  clouds: OpenClouds,
  flags: Pick<CheckFlags, "cloud">,
  { signal }: CommandContext,
): Promise<CheckReport> {
  const cloudFor = (platform: string) => clouds.open(platform);
  return await checkCluster({ store, signal, ...(flags.cloud ? { cloudFor } : {}) });
}

async function confirm(count: number, flags: RepairFlags, context: CommandContext): Promise<void> {
  if (flags.yes) return;
  const answer = await context.ask?.(`repair these ${count}? [y/N] `);
  if (answer !== undefined && /^y(es)?$/i.test(answer.trim())) return;
  throw new InvalidError(answer === undefined ? "nobody is there to confirm the plan" : "not confirmed", {
    hint: "nothing was done; --yes confirms it",
  });
}

/** A few lines a finding: what, the guarantee, what it means, what would mend it. */
function describe({ findings, unchecked, looked }: CheckReport): string {
  const lines = findings.flatMap((finding: Finding) => [
    `${finding.guarantee.padEnd(5)}${finding.subject}: ${finding.message}`,
    `     means: ${finding.meaning}`,
    `     → ${finding.mending}${finding.repair ? " (`cluster repair` can)" : ""}`,
  ]);
  for (const what of unchecked) lines.push(`not looked at: ${what}`);
  const { nodes, leases, resources } = looked;
  const seen = `looked at ${counted(nodes, "node")}, ${counted(leases, "lease")}, ${counted(resources, "thing")} at the cloud`;
  return [
    ...lines,
    `${findings.length === 0 ? "nothing is wrong" : counted(findings.length, "finding")}; ${seen}`,
  ].join("\n");
}
