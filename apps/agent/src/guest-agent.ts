import { readFile, rm, writeFile } from "node:fs/promises";
import {
  type GuestAgentFixes,
  guestAgentFixes,
  guestAgentSettings,
  guestAgentWarning,
  watchAliases,
} from "@cocoon-net/cloud-gke/host";
import { Backoff, describeError } from "@cocoon-net/core";
import { deleteLocalRoutes, type HostNetwork } from "@cocoon-net/host-linux";
import type { CommandContext } from "./command-context.ts";
import type { Logger } from "./log.ts";
import type { PoolFile } from "./state-directory.ts";

/** What the fixes depend on. */
export type FixedNode = Pick<PoolFile, "platform" | "subnet" | "primaryNIC">;

/**
 * What Google's guest agent does to alias ranges, to be undone on this node; undefined where there is no such agent.
 *
 * @param movedIn single addresses of other blocks that the node serves
 */
export function fixesOf(node: FixedNode, movedIn: readonly string[] = []): GuestAgentFixes | undefined {
  const { platform, subnet, primaryNIC } = node;
  if (platform !== "gke" || primaryNIC === undefined) return undefined;
  return guestAgentFixes(subnet, primaryNIC, movedIn);
}

/** At set-up: what is stale goes now and after each boot, and the operator is told how to end it for good. */
export async function applyFixes(node: FixedNode, context: CommandContext): Promise<void> {
  const fixes = fixesOf(node);
  if (fixes === undefined) return;
  for (const { path, mode, content } of fixes.files) {
    if ((await textOf(path)) === content) continue;
    try {
      await writeFile(path, content, { mode });
      context.say(`wrote ${path}`);
    } catch (error) {
      // The daemon does the same at each start.
      context.say(`warning: ${path} is not written: ${describeError(error)}`);
    }
  }
  for (const dst of await deleteStale(node, fixes, { signal: context.signal })) {
    context.say(`deleted ${routeText(dst, node)}`);
  }
  const warning = guestAgentWarning(await Promise.all(guestAgentSettings.map(textOf)));
  if (warning !== undefined) context.say(`warning: ${warning}`);
}

/** Undoes {@link applyFixes}. */
export async function removeFixes(node: FixedNode): Promise<void> {
  for (const { path } of fixesOf(node)?.files ?? []) await rm(path, { force: true });
}

export interface RouteGuardOptions {
  readonly node: FixedNode;
  /** Single addresses of other blocks that the node serves now. */
  readonly movedIn?: (() => readonly string[]) | undefined;
  readonly network: HostNetwork;
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
}

/** The guest agent may be later than the notice of a change; without one it acts when it is started anew. */
const firstLookMs = 1_000;
const lastLookMs = 60_000;

/**
 * Deletes the routes that black-hole the guests: before it resolves, after each change of the node's aliases, and once
 * in a while. Undefined where no guest agent makes any.
 */
export async function guardRoutes(options: RouteGuardOptions): Promise<AsyncDisposable | undefined> {
  const { node, movedIn = () => [], network, env, log } = options;
  if (fixesOf(node) === undefined) return undefined;
  const stop = new AbortController();
  const { signal } = stop;
  let problem = "";
  const look = async (): Promise<void> => {
    try {
      const fixes = fixesOf(node, movedIn());
      const deleted = fixes === undefined ? [] : await deleteStale(node, fixes, { network, signal });
      for (const dst of deleted) log.warn(`deleted ${routeText(dst, node)}`);
      problem = "";
    } catch (error) {
      const text = describeError(error);
      if (!signal.aborted && text !== problem) log.warn({ err: error }, `stale local routes: ${text}`);
      problem = text;
    }
  };
  await look();
  const backoff = new Backoff({ firstMs: firstLookMs, maxMs: lastLookMs });
  let changed = new AbortController();
  const looking = (async () => {
    while (!signal.aborted) {
      await backoff.wait(AbortSignal.any([signal, changed.signal])).catch(() => undefined);
      if (changed.signal.aborted) changed = new AbortController();
      if (!signal.aborted) await look();
    }
  })();
  const watching = (async () => {
    for await (const aliases of watchAliases({ env, signal })) {
      log.debug({ aliases }, "aliases of this instance");
      backoff.reset();
      changed.abort();
    }
  })().catch((error: unknown) => {
    if (!signal.aborted) log.warn({ err: error }, `aliases cannot be followed: ${describeError(error)}`);
  });
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await Promise.all([looking, watching]);
    },
  };
}

/** Destinations of the routes that were deleted. */
async function deleteStale(
  { primaryNIC = "" }: FixedNode,
  { isStale }: GuestAgentFixes,
  options: { readonly network?: HostNetwork; readonly signal: AbortSignal },
): Promise<string[]> {
  return (await deleteLocalRoutes(primaryNIC, isStale, options)).map(({ dst }) => dst);
}

function routeText(dst: string, { primaryNIC }: FixedNode): string {
  return `the local route ${dst} dev ${primaryNIC}, by which the kernel kept what is the VMs' (Google's guest agent)`;
}

/** Undefined for what cannot be read. */
async function textOf(path: string): Promise<string | undefined> {
  return await readFile(path, "utf8").catch(() => undefined);
}
