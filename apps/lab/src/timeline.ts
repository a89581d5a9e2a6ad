import { decode, eventSchema, keys, prefixes, type Store, type WatchBatch } from "@cocoon-net/core";
import { paint } from "./paint.ts";

/** Prints what happens, with the seconds since the start in front. */
export class Timeline {
  readonly #start = performance.now();
  #step = "starting";
  #print: (text: string) => void = console.log;

  get seconds(): number {
    return (performance.now() - this.#start) / 1_000;
  }

  /** What was begun last. */
  get currentStep(): string {
    return this.#step;
  }

  /** Lets somebody else print from now on: a prompt that has to stay below. */
  printWith(print: (text: string) => void): void {
    this.#print = print;
  }

  step(text: string): void {
    this.#step = text;
    this.#line(paint.cyan("▶"), text, paint.bold);
  }

  done(text: string): void {
    this.#line(paint.green("✓"), text);
  }

  failed(text: string): void {
    this.#line(paint.red("✗"), text, paint.red);
  }

  /** Something that the cluster did by itself. */
  event(text: string): void {
    this.#line(paint.yellow("●"), text, paint.dim);
  }

  text(text: string): void {
    this.#print(text);
  }

  #line(mark: string, text: string, style: (line: string) => string = String): void {
    const time = paint.dim(`${this.seconds.toFixed(1).padStart(6)} s`);
    const [first = "", ...rest] = wrap(text, 12).map(style);
    this.#print([`${time}  ${mark} ${first}`, ...rest].join(`\n${" ".repeat(12)}`));
  }
}

/** The text in lines that fit on the terminal beside an indent; whole where it is no terminal. */
export function wrap(text: string, indent: number): string[] {
  const width = process.stdout.isTTY
    ? Math.max(process.stdout.columns - indent, 30)
    : Number.POSITIVE_INFINITY;
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else {
      lines.push(word);
    }
  }
  return lines;
}

/** Follows the cluster's own event log, who leads and who falls silent, until the signal aborts. */
export async function followEvents(store: Store, timeline: Timeline, signal: AbortSignal): Promise<void> {
  const events = async (): Promise<void> => {
    for await (const batch of store.watch(prefixes.events, { signal })) {
      for (const entry of entriesOf(batch)) timeline.event(decode(eventSchema, entry).message);
    }
  };
  const leaders = async (): Promise<void> => {
    for await (const batch of store.watch(keys.leader, { signal })) {
      for (const { value } of entriesOf(batch)) {
        timeline.event(`${(JSON.parse(value) as { id: string }).id} leads the controllers`);
      }
    }
  };
  const heartbeats = async (): Promise<void> => {
    for await (const batch of store.watch(prefixes.alive, { signal })) {
      if (batch.type === "snapshot") continue;
      for (const change of batch.changes) {
        if (change.type !== "delete") continue;
        timeline.event(`the heartbeat of ${change.key.slice(prefixes.alive.length)} has stopped`);
      }
    }
  };
  await Promise.all([events(), leaders(), heartbeats()]);
}

function entriesOf(batch: WatchBatch) {
  if (batch.type === "snapshot") return batch.entries;
  return batch.changes.flatMap((change) => (change.type === "put" ? [change.entry] : []));
}
