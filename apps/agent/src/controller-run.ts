import { hostname } from "node:os";
import { createController, type ReclaimPolicy } from "@cocoon-net/controller";
import { type Cloud, DisposeStack } from "@cocoon-net/core";
import { type DriverPlaces, openCloud, openStore } from "./drivers.ts";
import type { Logger } from "./log.ts";

/** The settings of `cocoon-net controller`; a daemon that takes part uses the same. Durations in milliseconds. */
export interface ControllerFlags {
  readonly id?: string | undefined;
  readonly policy: ReclaimPolicy;
  readonly leaderTtl: number;
  readonly suspectAfter: number;
  readonly reclaimAfter?: number | undefined;
  readonly lookAgainAfter: number;
  readonly logLevel?: string | undefined;
}

export interface ControllerRun {
  /** The store's. The controller has a connection of its own. */
  readonly url: string;
  readonly drivers: DriverPlaces | undefined;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Campaigns and leads until the signal aborts. A cloud's SDK is loaded when its first job comes. */
export async function runController(flags: ControllerFlags, run: ControllerRun): Promise<void> {
  const { log, signal } = run;
  await using parts = new DisposeStack();
  const store = parts.use(await openStore(run.url, run));
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
      policy: flags.policy,
      leaderTtlMs: flags.leaderTtl,
      suspectAfterMs: flags.suspectAfter,
      reclaimAfterMs: flags.reclaimAfter,
      confirmAfterMs: flags.lookAgainAfter,
      cloudFor: async (platform) => {
        const cloud = clouds.get(platform) ?? parts.use(await openCloud(platform, run.drivers));
        clouds.set(platform, cloud);
        return cloud;
      },
      onEvent: ({ type, message, ...detail }) =>
        log[type === "problem" ? "warn" : "info"]({ event: type, ...detail }, message),
    }),
  );
  log.info({ store: store.label, ...store.capabilities }, "campaigning");
  await running.run({ signal });
  log.info("stopped");
}
