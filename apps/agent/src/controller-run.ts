import { hostname } from "node:os";
import { type Controller, createController, type ReclaimPolicy } from "@cocoon-net/controller";
import {
  Backoff,
  type CloudBudget,
  type CloudCall,
  CocoonError,
  DisposeStack,
  describeError,
  keys,
  type Store,
} from "@cocoon-net/core";
import { CloudCallTimes } from "./cloud-calls.ts";
import { renderControllerMetrics } from "./controller-metrics.ts";
import { type DriverPlaces, openStore } from "./drivers.ts";
import type { Logger } from "./log.ts";
import { OpenClouds } from "./open-clouds.ts";

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
  /** Of the process: shared by all clouds that it opens. */
  readonly budget: CloudBudget;
  /** Told how to render what this controller knows, in Prometheus's text format. */
  readonly onMetrics?: ((render: () => string) => void) | undefined;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Campaigns and leads until the signal aborts. A cloud's SDK is loaded when its first job comes. */
export async function runController(flags: ControllerFlags, run: ControllerRun): Promise<void> {
  const { log, signal } = run;
  await using parts = new DisposeStack();
  const opened = await openWhenThere(run);
  if (opened === undefined) return;
  const store = parts.use(opened);
  if (!store.capabilities.trustworthy) {
    log.warn(
      { durability: store.capabilities.durability },
      `${store.label} may lose acknowledged writes: nodes are watched, none is reclaimed`,
    );
  }
  await tellWhereEmpty(store, log, signal);
  const times = new CloudCallTimes();
  const onCall = (call: CloudCall): void => {
    running.countCloudCall(call);
    times.add(call);
    log.debug({ call }, `${call.action}: ${call.result}`);
  };
  const clouds = parts.use(new OpenClouds(run.drivers, { budget: run.budget, onCall }));
  const running: Controller = parts.use(
    createController({
      store,
      id: flags.id ?? `${hostname()}-${process.pid}`,
      policy: flags.policy,
      leaderTtlMs: flags.leaderTtl,
      suspectAfterMs: flags.suspectAfter,
      reclaimAfterMs: flags.reclaimAfter,
      confirmAfterMs: flags.lookAgainAfter,
      cloudFor: (platform) => clouds.open(platform),
      onEvent: ({ type, message, ...detail }) =>
        log[type === "problem" ? "warn" : "info"]({ event: type, ...detail }, message),
    }),
  );
  run.onMetrics?.(() => renderControllerMetrics(running.metrics()) + times.render());
  log.info({ store: store.label, ...store.capabilities }, "campaigning");
  await running.run({ signal });
  log.info("stopped");
}

/** It may be started before `cluster init`; or with a misspelt prefix, and nobody would reclaim anything. */
async function tellWhereEmpty(store: Store, log: Logger, signal: AbortSignal): Promise<void> {
  // A store that is away now is told of by the controller.
  const found = await store.get(keys.config, { signal }).catch(() => undefined);
  if (found === undefined || found.entry) return;
  log.warn(
    `there is no cluster in ${store.label} yet: waiting for one; check the URL's prefix if there should be`,
  );
}

/** A store that is away is waited for, and that is said once. Undefined when the signal aborts. */
async function openWhenThere(run: ControllerRun): Promise<Store | undefined> {
  const { signal, log } = run;
  const backoff = new Backoff({ firstMs: 500, maxMs: 10_000 });
  let reported = "";
  while (!signal.aborted) {
    try {
      return await openStore(run.url, run);
    } catch (error) {
      if (signal.aborted) break;
      if (!(error instanceof CocoonError) || !error.retryable) throw error;
      const problem = describeError(error);
      if (problem !== reported) log.warn({ err: error }, `waiting for the store: ${problem}`);
      reported = problem;
    }
    await backoff.wait(signal).catch(() => undefined);
  }
  return undefined;
}
