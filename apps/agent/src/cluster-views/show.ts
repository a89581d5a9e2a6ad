import { CocoonError, describeError, keys, pause, readCluster, type Store } from "@cocoon-net/core";
import type { CommandContext } from "../command-context.ts";
import { openStore } from "../drivers.ts";
import { formatDuration } from "../duration.ts";
import { LiveScreen } from "../live-screen.ts";
import { formatData } from "../output.ts";
import type { OutputFormat } from "../output-format.ts";
import type { Picture, View } from "./view.ts";

export interface ViewFlags {
  readonly store: string;
  readonly output: OutputFormat;
  readonly watch: boolean;
}

/** Prints what a view shows, once, or with `--watch` again whenever it has changed. */
export async function showView(view: View, flags: ViewFlags, context: CommandContext): Promise<void> {
  await using store = await openCluster(flags.store, context);
  if (flags.watch) return await watchView(view, store, flags.output, context);
  context.print(format(await view.read(store, { signal: context.signal }), flags.output));
}

/** Opens a store and makes sure that there is a cluster in it: an empty table must never mean a wrong prefix. */
export async function openCluster(url: string, context: CommandContext): Promise<Store> {
  const store = await openStore(url, context);
  try {
    await readCluster(store, { signal: context.signal });
    return store;
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

function format(picture: Picture, output: OutputFormat): string {
  return output === "table" ? picture.text() : formatData(picture.data, output);
}

/** At most this often is the cluster read again; a large one, less often: reading takes a fifth of the time. */
const shortestPauseMs = 250;
const restPerRead = 4;
/** How often what is relative to now is drawn anew. */
const tickMs = 1_000;

async function watchView(
  view: View,
  store: Store,
  output: OutputFormat,
  context: CommandContext,
): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const { revision } = await store.get(keys.config, { signal });
  let stale = true;
  const watchers = view.prefixes.map(async (prefix) => {
    for await (const _ of store.watch(prefix, { fromRevision: revision, signal })) stale = true;
  });
  // What a watch cannot go on after ends the command.
  const watching = Promise.all(watchers).catch((error: unknown) => stop.abort(error));
  using screen = output === "table" && context.screen ? new LiveScreen(context.screen) : undefined;
  let picture: Picture | undefined;
  let shown = "";
  let problem: string | undefined;
  let readAt = Date.now();
  try {
    while (!signal.aborted) {
      const began = performance.now();
      if (stale) {
        stale = false;
        try {
          picture = await view.read(store, { signal });
          problem = undefined;
          readAt = Date.now();
        } catch (error) {
          if (signal.aborted || !(error instanceof CocoonError) || !error.retryable) throw error;
          stale = true;
          problem = describeError(error);
        }
        const data = JSON.stringify(picture?.data);
        if (picture && screen === undefined && data !== shown) {
          context.print(
            output === "json" ? data : `${shown === "" ? "" : "---\n"}${format(picture, output)}`,
          );
          shown = data;
        }
      }
      const took = performance.now() - began;
      if (picture) screen?.draw(picture.text(), statusLine(store, readAt, problem));
      await pause(Math.max(shortestPauseMs, took * restPerRead), signal);
      for (let rested = 0; !stale && rested < tickMs; rested += shortestPauseMs) {
        await pause(shortestPauseMs, signal);
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    stop.abort();
    await watching;
  }
  // Ctrl-C is how one leaves; anything else is what went wrong.
  if (!context.signal.aborted) throw stop.signal.reason;
}

function statusLine(store: Store, readAt: number, problem: string | undefined): string {
  if (problem === undefined) return `${store.label}   Ctrl-C ends`;
  return `as it was ${formatDuration(Date.now() - readAt)} ago: ${problem}`;
}
