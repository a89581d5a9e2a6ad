import { hostname } from "node:os";
import { createController } from "@cocoon-net/controller";
import { type Cloud, DisposeStack } from "@cocoon-net/core";
import type { CommandContext } from "../command-context.ts";
import { openCloud, openStore } from "../drivers.ts";
import { createLogger } from "../log.ts";

export interface ControllerFlags {
  readonly store: string;
  readonly id?: string | undefined;
  /** Milliseconds, as the others. */
  readonly leaderTtl: number;
  readonly suspectAfter: number;
  readonly reclaimAfter?: number | undefined;
  readonly lookAgainAfter: number;
}

export async function controller(flags: ControllerFlags, context: CommandContext): Promise<void> {
  const log = createLogger(context.env);
  await using parts = new DisposeStack();
  const store = parts.use(await openStore(flags.store, context));
  if (!store.capabilities.trustworthy) {
    log.warn(
      { durability: store.capabilities.durability },
      `${store.label} may lose acknowledged writes: nodes are watched, none is reclaimed`,
    );
  }
  const clouds = new Map<string, Cloud>();
  const running = parts.use(
    createController({
      store,
      id: flags.id ?? `${hostname()}-${process.pid}`,
      leaderTtlMs: flags.leaderTtl,
      suspectAfterMs: flags.suspectAfter,
      reclaimAfterMs: flags.reclaimAfter,
      confirmAfterMs: flags.lookAgainAfter,
      cloudFor: async (platform) => {
        const cloud = clouds.get(platform) ?? parts.use(await openCloud(platform, context.drivers));
        clouds.set(platform, cloud);
        return cloud;
      },
      onEvent: ({ type, message, ...detail }) =>
        log[type === "problem" ? "warn" : "info"]({ event: type, ...detail }, message),
    }),
  );
  log.info({ store: store.label, ...store.capabilities }, "campaigning");
  await running.run({ signal: context.signal });
  log.info("stopped");
}
