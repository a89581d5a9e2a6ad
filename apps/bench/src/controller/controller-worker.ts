import { volcengineDriver } from "@cocoon-net/cloud-volcengine";
import { type Controller, createController } from "@cocoon-net/controller";
import { CloudBudget, type CloudCall, pause } from "@cocoon-net/core";
import { answerParent } from "../child-program.ts";
import { openStore, type Target } from "../target.ts";
import type { ControllerSizes } from "./sizes.ts";

/** A controller alone in its process, as `cocoon-net controller` is. */

export interface ControllerParams {
  readonly target: Target;
  readonly id: string;
  readonly cloudEnv: Readonly<Record<string, string>>;
  readonly sizes: ControllerSizes;
}

export interface ControllerNews {
  readonly calls: readonly Pick<CloudCall, "action" | "result">[];
  /** Milliseconds of the wall clock. */
  readonly firstCallAt?: number | undefined;
  readonly problems: readonly string[];
}

export type ControllerAnswers = typeof answers;

const problems: string[] = [];
let calls: Pick<CloudCall, "action" | "result">[] = [];
let firstCallAt: number | undefined;
let controller: Controller | undefined;

const answers = {
  start: (params: ControllerParams): Promise<void> => start(params),
  /** When it leads and knows so many nodes: that moment, in milliseconds of the wall clock. */
  async loaded(nodes: number): Promise<number> {
    // Known to it only when it leads and has read everything.
    while (nodesKnown() < nodes) await pause(5);
    return Date.now();
  },
  /** Its cloud calls since they were asked for last, and all its problems. */
  news(): ControllerNews {
    const told = { calls, firstCallAt, problems: [...problems] };
    calls = [];
    firstCallAt = undefined;
    return told;
  },
};

answerParent(answers);

function nodesKnown(): number {
  return Object.values(controller?.metrics().nodes ?? {}).reduce((sum, count) => sum + count, 0);
}

async function start({ target, id, cloudEnv, sizes }: ControllerParams): Promise<void> {
  const store = await openStore(target);
  const cloud = volcengineDriver.open("volcengine", {
    env: { ...process.env, ...cloudEnv },
    budget: new CloudBudget({ rates: { volcengine: { ...sizes.rates } } }),
    onCall: ({ action, result }) => {
      firstCallAt ??= Date.now();
      calls.push({ action, result });
    },
  });
  const { leaderTtlMs, suspectAfterMs, confirmAfterMs } = sizes;
  controller = createController({
    ...{ store, id, leaderTtlMs, suspectAfterMs, confirmAfterMs },
    cloudFor: () => cloud,
    onEvent: ({ type, message }) => {
      if (type === "problem") problems.push(message);
    },
  });
  controller.run().catch((error: unknown) => problems.push(String(error)));
}
