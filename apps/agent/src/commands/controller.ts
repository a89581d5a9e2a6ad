import { DisposeStack } from "@cocoon-net/core";
import { cloudBudget } from "../cloud-config.ts";
import type { CommandContext } from "../command-context.ts";
import { type ControllerFlags, runController } from "../controller-run.ts";
import { parseListenAddress } from "../listen-address.ts";
import { createLogger } from "../log.ts";
import { serveMetrics } from "../metrics-server.ts";

export async function controller(
  flags: ControllerFlags & { readonly store: string; readonly metricsAddr: string },
  context: CommandContext,
): Promise<void> {
  const { drivers, signal } = context;
  const log = createLogger(context.env, flags.store, flags.logLevel);
  const metricsAt = flags.metricsAddr === "" ? undefined : parseListenAddress(flags.metricsAddr);
  await using parts = new DisposeStack();
  let render: (() => string) | undefined;
  if (metricsAt) {
    const pages = {
      metrics: () => render?.() ?? "",
      notReady: () => (render === undefined ? ["the store is not open yet"] : []),
    };
    parts.use(serveMetrics(metricsAt, pages, log));
  }
  const onMetrics = (how: () => string): void => {
    render = how;
  };
  const budget = cloudBudget(context.cloud);
  await runController(flags, { url: flags.store, drivers, budget, onMetrics, signal, log });
}
