import { Backoff, describeError } from "@cocoon-net/core";
import type { CommandContext } from "../command-context.ts";
import type { ControllerFlags } from "../controller-run.ts";
import { allowCompilers } from "../v8-memory.ts";
import type { Assignment } from "./assignment.ts";

/** A controller that cannot go on never stops the guests from being served. */
export async function startController(
  url: string,
  flags: ControllerFlags,
  { log, signal }: Assignment,
  { drivers, cloud }: CommandContext,
  onMetrics: (render: () => string) => void,
): Promise<AsyncDisposable> {
  allowCompilers();
  const [{ runController }, { cloudBudget }] = await Promise.all([
    import("../controller-run.ts"),
    import("../cloud-config.ts"),
  ]);
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const budget = cloudBudget(cloud);
  const backoff = new Backoff({ firstMs: 1_000, maxMs: 60_000 });
  const running = (async () => {
    while (!until.aborted) {
      const began = performance.now();
      await runController(flags, { url, drivers, budget, onMetrics, log, signal: until }).catch(
        (error: unknown) => {
          if (!until.aborted) log.error({ err: error }, `controller: ${describeError(error)}`);
        },
      );
      if (performance.now() - began > 600_000) backoff.reset();
      await backoff.wait(until).catch(() => undefined);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}
