import { Backoff, type Revision } from "@cocoon-net/core";
import { Connection } from "./connection.ts";
import { changesKey } from "./layout.ts";
import type { ResolvedOptions } from "./options.ts";
import { tick } from "./scripts/tick.ts";

/** Longest wait for a change in one request: how long a session that nobody told us of may overstay. */
const longestBlockMs = 5_000;
/** Time that the server may be late with an answer before the connection is given up. */
const latenessMs = 3_000;

/** Tells one watch that it should look for changes. */
export class Wake implements Disposable {
  readonly prefix: string;
  readonly #forget: (wake: Wake) => void;
  #pending = false;
  #waiting: PromiseWithResolvers<void> | undefined;

  constructor(prefix: string, forget: (wake: Wake) => void) {
    this.prefix = prefix;
    this.#forget = forget;
  }

  ring(): void {
    this.#pending = true;
    this.#waiting?.resolve();
  }

  /** Resolves once it has been rung since the last call, or when `ended` aborts. */
  async rung(ended: AbortSignal): Promise<void> {
    if (!this.#pending && !ended.aborted) {
      this.#waiting = Promise.withResolvers<void>();
      const { promise, resolve } = this.#waiting;
      const onAbort = () => resolve();
      ended.addEventListener("abort", onAbort);
      await promise;
      ended.removeEventListener("abort", onAbort);
      this.#waiting = undefined;
    }
    this.#pending = false;
  }

  [Symbol.dispose](): void {
    this.#forget(this);
  }
}

/**
 * The one blocking connection of a store handle. It waits for changes in the stream and wakes the watches they
 * concern; a watch then reads by itself, so that nothing here needs to be exact: after any doubt all are woken.
 * It also reaps expired sessions when their time comes, so that watchers learn of it although nobody else calls.
 * Runs only while there are watches.
 */
export class Pulse implements Disposable {
  readonly #options: ResolvedOptions;
  readonly #wakes = new Set<Wake>();
  #stop: AbortController | undefined;

  constructor(options: ResolvedOptions) {
    this.#options = options;
  }

  subscribe(prefix: string): Wake {
    const wake = new Wake(prefix, (gone) => {
      this.#wakes.delete(gone);
      if (this.#wakes.size > 0) return;
      this.#stop?.abort();
      this.#stop = undefined;
    });
    this.#wakes.add(wake);
    if (this.#stop === undefined) {
      this.#stop = new AbortController();
      void this.#run(this.#stop.signal);
    }
    return wake;
  }

  /** Ends it although watches are left: their consumers may never ask again. */
  [Symbol.dispose](): void {
    this.#stop?.abort();
  }

  async #run(stopped: AbortSignal): Promise<void> {
    await using connection = new Connection(this.#options, longestBlockMs + latenessMs);
    const backoff = new Backoff({ maxMs: 2_000 });
    while (!stopped.aborted) {
      try {
        await this.#follow(connection, stopped, () => backoff.reset());
      } catch {
        // What is wrong, each watch learns from its own calls; here it is only tried again.
        await backoff.wait(stopped).catch(() => {});
      }
    }
  }

  /** Follows the stream until something does not fit. */
  async #follow(connection: Connection, stopped: AbortSignal, works: () => void): Promise<void> {
    // The place to follow from is taken first, then all are woken: what is written in between is not missed.
    const start = await this.#tick(connection, stopped);
    for (const wake of this.#wakes) wake.ring();
    let position = `${start.revision}-18446744073709551615`;
    let { dueAt } = start;
    while (!stopped.aborted) {
      const left = Math.ceil(dueAt - performance.now());
      const entries = left > 0 ? await this.#read(connection, position, left, stopped) : [];
      for (const { id, key, session } of entries) {
        position = id;
        for (const wake of this.#wakes) if (key.startsWith(wake.prefix)) wake.ring();
        // A session that may end earlier than those known.
        if (session !== "") dueAt = 0;
      }
      if (entries.length > 0) continue;
      const now = await this.#tick(connection, stopped);
      // Emptied, or set back: the ids to come may be smaller than the one waited for.
      if (now.era !== start.era || now.revision < Number.parseInt(position, 10)) return;
      dueAt = now.dueAt;
      works();
    }
  }

  async #tick(
    connection: Connection,
    signal: AbortSignal,
  ): Promise<{ era: string; revision: Revision; dueAt: number }> {
    const call = { what: "look after sessions", writes: false, timeoutMs: latenessMs, signal };
    const [, era, revision, next] = await connection.run(tick, [], call);
    const waitMs = Number(next) < 0 ? longestBlockMs : Math.min(Number(next) + 1, longestBlockMs);
    return { era: String(era), revision: Number(revision), dueAt: performance.now() + waitMs };
  }

  async #read(
    connection: Connection,
    after: string,
    blockMs: number,
    signal: AbortSignal,
  ): Promise<Notice[]> {
    const args = ["COUNT", 100, "BLOCK", blockMs, "STREAMS", connection.key(changesKey), after];
    const call = { what: "wait for changes", writes: false, timeoutMs: blockMs + latenessMs, signal };
    const reply = (await connection.command("xread", args, call)) as [string, [string, string[]][]][] | null;
    const entries = reply?.[0]?.[1] ?? [];
    return entries.map(([id, fields]) => ({ id, key: fields[3] ?? "", session: fields[9] ?? "" }));
  }
}

interface Notice {
  readonly id: string;
  readonly key: string;
  readonly session: string;
}
