import { createHash } from "node:crypto";
import { counted, encode, keys, type Store } from "@cocoon-net/core";
import type { CheckReport } from "./check.ts";
import { type LoggedEvent, readEvents } from "./event-log.ts";
import { type Finding, identity, isSameFinding } from "./finding.ts";
import { newBase } from "./intent.ts";
import { type OperatorOptions, operatorWrite } from "./operator-write.ts";
import type { PlannedRepair, RepairIntent } from "./repair-intent.ts";

export interface RepairPlan {
  /** The same for the same actions, so that two operators who repair the same share one job. */
  readonly id: string;
  readonly actions: readonly PlannedRepair[];
  /** Findings that nothing is done about, each with the reason. */
  readonly left: readonly { readonly finding: Finding; readonly why: string }[];
}

/** What two checks agree on, and a repair can mend (G8). Pure; writes nothing. */
export function planRepair(first: CheckReport, second: CheckReport): RepairPlan {
  const before = new Map(first.findings.map((finding) => [identity(finding), finding]));
  const actions: PlannedRepair[] = [];
  const left: { finding: Finding; why: string }[] = [];
  for (const finding of second.findings) {
    const { code, subject, repair } = finding;
    const earlier = before.get(identity(finding));
    if (!repair) left.push({ finding, why: "has to be mended by hand" });
    else if (!earlier || !isSameFinding(earlier, finding))
      left.push({ finding, why: "only one of two checks found it so" });
    else actions.push({ code, subject, action: repair });
  }
  const digest = createHash("sha256").update(encode(actions)).digest("hex").slice(0, 12);
  return { id: `repair-${digest}`, actions, left };
}

export interface RunRepairOptions extends OperatorOptions {
  /** Told as the leader works. */
  readonly onEvent?: ((event: LoggedEvent) => void) | undefined;
}

export interface RepairResult {
  readonly repaired: readonly LoggedEvent[];
  /** What had changed since the checks, so that nothing was done. */
  readonly skipped: readonly LoggedEvent[];
}

/**
 * Has the leader carry a plan out, and waits for it. Each action compares what it was decided upon, and what is deleted
 * at the cloud is looked at a third time, so that repairs which meet each other, or come late, do no harm.
 * @throws the signal's reason; the job then goes on
 */
export async function runRepair(
  store: Store,
  plan: RepairPlan,
  options: RunRepairOptions = {},
): Promise<RepairResult> {
  if (plan.actions.length === 0) return { repaired: [], skipped: [] };
  const { now = () => new Date(), onEvent = () => {}, signal } = options;
  const key = keys.intent(plan.id);
  const { revision } = await store.get(key, { signal });
  const intent: RepairIntent = {
    kind: "repair",
    step: "repairing",
    actions: plan.actions,
    next: 0,
    cloudSteps: [],
    ...newBase(now().toISOString()),
  };
  const message = `an operator repairs ${counted(plan.actions.length, "finding")}`;
  // Refused where another operator has asked for the same: it is one job.
  await operatorWrite(
    store,
    {
      if: [{ key, exists: false }],
      then: [{ put: key, value: encode(intent) }],
      event: { type: "repair-requested", reason: "operator", message },
      about: { intent: plan.id },
      after: revision,
    },
    options,
  );
  const repaired: LoggedEvent[] = [];
  const skipped: LoggedEvent[] = [];
  const since = String(revision).padStart(16, "0");
  for await (const event of readEvents(store, { follow: true, signal })) {
    if (event.intent !== plan.id || event.id < since) continue;
    onEvent(event);
    if (event.type === "repaired") repaired.push(event);
    if (event.type === "repair-skipped") skipped.push(event);
    if (event.type === "repair-ended") break;
  }
  signal?.throwIfAborted();
  return { repaired, skipped };
}
