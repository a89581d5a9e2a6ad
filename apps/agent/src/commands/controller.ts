import type { CommandContext } from "../command-context.ts";
import { type ControllerFlags, runController } from "../controller-run.ts";
import { createLogger } from "../log.ts";

export async function controller(
  flags: ControllerFlags & { readonly store: string },
  context: CommandContext,
): Promise<void> {
  const { drivers, signal } = context;
  await runController(flags, {
    url: flags.store,
    drivers,
    signal,
    log: createLogger(context.env, flags.store, flags.logLevel),
  });
}
