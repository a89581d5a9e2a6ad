import { once } from "node:events";
import { describeError, pause } from "@cocoon-net/core";
import { paint } from "./paint.ts";
import { prompt } from "./prompt.ts";
import { Scene } from "./scene.ts";
import { interrupted } from "./stage.ts";
import { storiesOf } from "./stories/index.ts";
import { followEvents, Timeline, wrap } from "./timeline.ts";
import type { World } from "./world.ts";

export interface Show {
  /** End after the story. */
  readonly once: boolean;
  readonly story: string;
  /** What this is and what will happen: a title, and what is to be known. */
  readonly header: readonly (readonly [title: string, text: string])[];
  start(signal: AbortSignal): Promise<World>;
}

/** From the start of the world to the end of the story, or of all; an idle machine needs a tenth of it. */
const limitMs = (story: string): number => (story === "all" ? 600_000 : 300_000);
const cleanUpLimitMs = 12_000;
/** A part's end is heard of after what it made fail. */
const endHeardMs = 1_000;
/** Why everything stops when the user wants it to. */
const wish: Error = new Error("interrupted");

/** Shows a world from its start to its end. @returns the exit code */
export async function perform(show: Show): Promise<number> {
  const stop = new AbortController();
  const dispose = stopOnSignals(stop);
  const timeline = new Timeline();
  let world: World | undefined;
  // A story need not wait for what a part that has ended would have done.
  const broken = setInterval(() => {
    if (world && world.ended().length > 0) stop.abort(new Error(world.ended().join("; ")));
  }, 200);
  const limit = setTimeout(
    () => stop.abort(new Error(`the story is not over after ${limitMs(show.story) / 1_000} s`)),
    limitMs(show.story),
  );
  try {
    printHeader(show.header);
    world = await show.start(stop.signal);
    timeline.done(world.description);
    follow(world, timeline, stop.signal);
    const scene = new Scene(world, timeline, stop.signal);
    for (const { name, play } of storiesOf(show.story, world.isEmbedded)) {
      if (show.story === "all") timeline.text(paint.bold(`\n${name}`));
      const summary = await play(scene);
      timeline.done(`the story is over and every step held: ${summary}`);
    }
    clearInterval(broken);
    clearTimeout(limit);
    if (!show.once) await stayUp(world, timeline, stop);
    return 0;
  } catch (error) {
    if (stop.signal.reason === wish) {
      timeline.text("interrupted");
      return show.once ? interrupted : 0;
    }
    await explain(error, stop.signal, world, timeline);
    return 1;
  } finally {
    clearInterval(broken);
    clearTimeout(limit);
    stop.abort(wish);
    if (world) timeline.text("cleaning up");
    await cleanUp(world);
    dispose();
  }
}

/** The first signal asks for the end. A later Ctrl-C ends at once; what npm passes on of the first is none. */
function stopOnSignals(stop: AbortController): () => void {
  let first = Number.POSITIVE_INFINITY;
  const onSignal = (signal: NodeJS.Signals): void => {
    const now = performance.now();
    if (signal === "SIGINT" && now - first > 500) process.exit(interrupted);
    first = Math.min(first, now);
    stop.abort(wish);
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, onSignal);
  return () => {
    for (const signal of signals) process.off(signal, onSignal);
  };
}

function printHeader(header: Show["header"]): void {
  for (const [title, text] of header) {
    const lines = wrap(text, 12).join(`\n${" ".repeat(12)}`);
    console.log(title === "" ? paint.bold(text) : `  ${paint.dim(title.padEnd(10))}${lines}`);
  }
  console.log();
}

/** The event log, as it grows. Its failure shows in the story's own checks too. */
function follow(world: World, timeline: Timeline, signal: AbortSignal): void {
  followEvents(world.store, timeline, signal).catch((error: unknown) => {
    if (!signal.aborted) timeline.failed(`the event log cannot be followed: ${describeError(error)}`);
  });
}

async function explain(
  error: unknown,
  signal: AbortSignal,
  world: World | undefined,
  timeline: Timeline,
): Promise<void> {
  const heard = performance.now() + endHeardMs;
  while (world?.ended().length === 0 && performance.now() < heard) await pause(20);
  const ended = world?.ended() ?? [];
  // What a part's end made fail says less than that it ended.
  const reason = ended.length > 0 ? ended.join("; ") : describeError(signal.aborted ? signal.reason : error);
  timeline.failed(`failed at "${timeline.currentStep}": ${reason}`);
  for (const { title, lines } of (await world?.logs()) ?? []) {
    timeline.text([paint.dim(`--- ${title}`), ...lines].join("\n"));
  }
}

async function stayUp(world: World, timeline: Timeline, stop: AbortController): Promise<void> {
  const commands = world.lookInside();
  if (commands.length > 0) timeline.text("\nThe cluster stays up. Look inside from another terminal:\n");
  for (const line of commands) timeline.text(`  ${line}`);
  const told = new Set<string>();
  const looking = setInterval(() => {
    for (const what of world.ended()) {
      if (!told.has(what)) timeline.event(what);
      told.add(what);
    }
  }, 500);
  try {
    if (process.stdin.isTTY && process.stdout.isTTY) {
      await prompt(world, timeline, stop);
    } else {
      timeline.text("\nCtrl-C ends it and cleans up.");
      if (!stop.signal.aborted) await once(stop.signal, "abort");
    }
  } finally {
    clearInterval(looking);
  }
}

async function cleanUp(world: World | undefined): Promise<void> {
  const limit = new AbortController();
  const late = pause(cleanUpLimitMs, limit.signal).then(
    () => console.error(`not everything has ended within ${cleanUpLimitMs / 1_000} s`),
    () => undefined,
  );
  await Promise.race([world?.[Symbol.asyncDispose](), late]);
  limit.abort();
}
