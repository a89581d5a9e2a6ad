import { volcengineDriver } from "@cocoon-net/cloud-volcengine";
import { type Controller, createController } from "@cocoon-net/controller";
import { CloudBudget, type CloudCall, pause } from "@cocoon-net/core";
import { openStore } from "../target.ts";
import type { Asked, ControllerParams, Told } from "./controller-process.ts";

/** A controller alone in its process, as `cocoon-net controller` is. */

process.on("message", (asked: Asked) => {
  answer(asked).then(
    (told) => process.send?.(told),
    (error: unknown) => process.send?.({ failed: String(error) } satisfies Told),
  );
});
process.on("disconnect", () => process.exit());

const problems: string[] = [];
let calls: Pick<CloudCall, "action" | "result">[] = [];
let firstCallAt: number | undefined;
let controller: Controller | undefined;

async function answer(asked: Asked): Promise<Told> {
  switch (asked.ask) {
    case "start":
      await start(asked.params);
      return {};
    case "loaded":
      // Known to it only when it leads and has read everything.
      while (nodesKnown() < asked.nodes) await pause(5);
      return { at: Date.now() };
    case "calls": {
      const told = { calls, firstCallAt, problems: [...problems] };
      calls = [];
      firstCallAt = undefined;
      return told;
    }
  }
}

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
