import {
  type Cloud,
  ConflictError,
  counted,
  decode,
  encode,
  formatCidr,
  keys,
  nodeSchema,
  notPaused,
  type Operation,
  parseCidr,
  type QuarantineRecord,
  type SlotRecord,
  type Store,
  slotsOf,
} from "@cocoon-net/core";
import { checkCluster } from "./check.ts";
import type { Told } from "./durable-event.ts";
import type { RepairAction } from "./finding.ts";
import { newBase, newIntentID } from "./intent.ts";
import type { Change, IntentLog } from "./intent-log.ts";
import { cloudJob, type Next, type RunContext, type RunnableJob } from "./intent-run.ts";
import { forcedQuarantineMs } from "./quarantine-length.ts";
import type { ReclaimIntent } from "./reclaim-intent.ts";
import type { PlannedRepair, RepairIntent } from "./repair-intent.ts";

export interface RepairContext extends RunContext {
  readonly store: Store;
  readonly cloudFor: (platform: string) => Cloud | Promise<Cloud>;
  readonly nodePrefix: number;
  readonly leaseMs: number;
  readonly platform: string;
  readonly paused: () => boolean;
  readonly recovering: () => boolean;
}

/** Failures after which an action is passed over, so that it does not hold up the others. */
const mostFailures = 5;

/** Carries a plan out, one action after the other, each in one transaction with the intent's progress. */
export class Repair implements RunnableJob<RepairIntent> {
  readonly log: IntentLog<RepairIntent>;
  readonly retryEvent = "repair-retry";
  readonly #context: RepairContext;

  constructor(log: IntentLog<RepairIntent>, context: RepairContext) {
    this.log = log;
    this.#context = context;
  }

  get #current(): PlannedRepair | undefined {
    return this.log.intent.actions[this.log.intent.next];
  }

  describe(): string {
    return `mending ${this.#current?.subject ?? "nothing"}`;
  }

  async advance(): Promise<Next> {
    const { paused, recovering } = this.#context;
    if (paused() || recovering()) return "held";
    const current = this.#current;
    if (!current) {
      const message = `the plan of ${counted(this.log.intent.actions.length, "action")} is carried out`;
      return (await this.log.end({ event: { type: "repair-ended", message } })) ? "ended" : "held";
    }
    const { action } = current;
    if (this.log.intent.attempts >= mostFailures) {
      await this.#goOn({
        type: "repair-skipped",
        reason: "failed",
        message: `${current.subject} was left alone: ${this.log.intent.lastError ?? "it failed"}`,
      });
      return 0;
    }
    const done =
      action.do === "release-resource"
        ? await this.#release(current, action)
        : await this.#write(current, action);
    if (!done && !paused()) {
      await this.#goOn({
        type: "repair-skipped",
        reason: "overtaken",
        message: `${current.subject} (${current.code}) has changed since it was looked at; nothing was done`,
      });
    }
    return 0;
  }

  async #write(
    current: PlannedRepair,
    action: Exclude<RepairAction, { readonly do: "release-resource" }>,
  ): Promise<boolean> {
    const then = await this.#operations(action);
    if (!then) return false;
    return this.#goOn(mended(current), { if: [notPaused, ...action.if], then });
  }

  /** Undefined when what it is about is gone. */
  async #operations(
    action: Exclude<RepairAction, { readonly do: "release-resource" }>,
  ): Promise<Operation[] | undefined> {
    switch (action.do) {
      case "delete-key":
        return [{ delete: action.key }];
      case "put-slot": {
        const slot: SlotRecord = { node: action.node, uid: action.uid };
        return [{ put: keys.slot(action.cidr), value: encode(slot) }];
      }
      case "set-status": {
        const { entry } = await this.#context.store.get(keys.node(action.node), {
          signal: this.#context.signal,
        });
        if (!entry) return undefined;
        return [{ put: entry.key, value: encode({ ...decode(nodeSchema, entry), status: action.status }) }];
      }
      case "rest-block":
        return this.#restBlock(action);
    }
  }

  /** A quarantine and the job that ends it, as a forced reclaim leaves them: nothing says that it was ever fenced. */
  async #restBlock({ cidr, node, uid }: RepairAction & { readonly do: "rest-block" }): Promise<Operation[]> {
    const { clock, leaseMs, platform, nodePrefix } = this.#context;
    const now = clock.now().getTime();
    const time = new Date(now).toISOString();
    const id = newIntentID("reclaim", node || cidr.replace("/", "-"));
    const quarantine: QuarantineRecord = {
      node,
      uid,
      from: time,
      until: new Date(now + forcedQuarantineMs(undefined, leaseMs, 0)).toISOString(),
      reason: "a repair put it to rest: its own job was lost",
      fenced: false,
      intent: id,
    };
    const intent: ReclaimIntent = {
      kind: "reclaim",
      cause: "operator-forced",
      node,
      uid,
      platform,
      subnet: cidr,
      eniIDs: [],
      epoch: 0,
      statusBefore: "suspect",
      step: "releasing",
      cloudSteps: [],
      ...newBase(time),
    };
    const held = encode({ node: "", uid } satisfies SlotRecord);
    return [
      ...slotsOf(parseCidr(cidr), nodePrefix).map(
        (slot): Operation => ({
          put: keys.slot(formatCidr(slot)),
          value: held,
        }),
      ),
      { put: keys.quarantine(cidr), value: encode(quarantine) },
      { put: keys.intent(id), value: encode(intent) },
    ];
  }

  async #release(
    current: PlannedRepair,
    action: RepairAction & { readonly do: "release-resource" },
  ): Promise<boolean> {
    const { store, cloudFor, signal, clock } = this.#context;
    // G8: once more, just before acting.
    const report = await checkCluster({ store, cloudFor, signal, now: () => clock.now(), sample: [] });
    const still = report.findings.some(
      ({ code, subject, repair }) =>
        code === current.code && subject === current.subject && encode(repair) === encode(action),
    );
    if (!still && this.log.intent.cloudSteps.length === 0) return false;
    const cloud = await cloudFor(action.platform);
    const job = cloudJob(this.log, {
      held: [],
      before: () => [notPaused],
      refused: () => new ConflictError("nothing is deleted: everything is paused"),
    });
    const target = {
      node: action.node,
      instanceID: action.instanceID,
      subnet: action.subnet,
      eniIDs: [action.id],
    };
    const { remaining } = await cloud.release(target, job, { signal, purpose: "clean-up" });
    if (remaining.length > 0) {
      throw new ConflictError(
        `the cloud still has ${remaining.map(({ id, reason }) => `${id} (${reason})`).join()}`,
      );
    }
    return this.#goOn(mended(current));
  }

  #goOn(event: Told, write: Omit<Change, "event"> = {}): Promise<boolean> {
    return this.log.save(
      ({ lastError: _, ...intent }) => ({ ...intent, next: intent.next + 1, attempts: 0, cloudSteps: [] }),
      { ...write, event },
    );
  }
}

function mended({ code, subject, action }: PlannedRepair): Told {
  return { type: "repaired", message: `${subject} (${code}): ${action.do}` };
}
