import { Backoff, CocoonError, type Revision } from "@cocoon-net/core";
import { Alarm } from "./alarm.ts";
import { type Call, Connection } from "./connection.ts";
import type { Position } from "./history.ts";
import type { ResolvedOptions } from "./options.ts";
import { tick } from "./scripts/tick.ts";
import { Wake } from "./wake.ts";

/** Longest pause between two ticks: how long a session that nobody told us of may overstay. */
const longestPauseMs = 5_000;
/** A tick with nothing to reap goes out up to so much sooner, with other questions of the process. */
const earlyMs = 250;
/** Time that the server may be late with an answer before the connection is given up. */
const silenceMs = 3_000;
const openTimeoutMs = 5_000;

/**
 * The listening connection of a store handle. Every change is announced on the channel of each prefix of its key
 * that somebody watches, so that a watch hears of what concerns it and nothing else; it then reads that from the
 * stream, on this connection too. As the server answers and announces in one order, each answer of `tick` says up to
 * where everything has been announced. A connection that ends, or whose server turns out to have changed its
 * history or its role, leaves all watches in doubt, and another one takes its place.
 *
 * It also reaps expired sessions when their time comes, so that watchers learn of it although nobody else calls.
 * Runs only while there are watches.
 */
export class Pulse implements Disposable {
  readonly #options: ResolvedOptions;
  readonly #wakes = new Set<Wake>();
  #alarm = new Alarm();
  #stop: AbortController | undefined;

  constructor(options: ResolvedOptions) {
    this.#options = options;
  }

  /** `position`: what the watch knows already; undefined for nothing. */
  subscribe(prefix: string, position: Position | undefined): Wake {
    const wake = new Wake(prefix, position, (gone) => this.#forget(gone));
    this.#wakes.add(wake);
    if (this.#stop === undefined) {
      this.#stop = new AbortController();
      this.#alarm = new Alarm();
      void this.#run(this.#stop.signal, this.#alarm);
    }
    this.#alarm.ring();
    return wake;
  }

  /** Looks after the connection now: there is reason to believe that it is no longer good, or may be made. */
  probe(): void {
    this.#alarm.ring();
  }

  /** Ends it although watches are left: their consumers may never ask again. */
  [Symbol.dispose](): void {
    this.#stop?.abort();
  }

  #forget(wake: Wake): void {
    this.#wakes.delete(wake);
    this.#alarm.ring();
    if (this.#wakes.size > 0) return;
    this.#stop?.abort();
    this.#stop = undefined;
  }

  async #run(stopped: AbortSignal, alarm: Alarm): Promise<void> {
    const backoff = new Backoff({ maxMs: 2_000 });
    while (!stopped.aborted) {
      await using connection = new Connection(this.#options, { silenceMs, lasting: false });
      try {
        await connection.open(openTimeoutMs, stopped);
        await this.#follow(connection, stopped, alarm, () => backoff.reset());
      } catch (error) {
        if (stopped.aborted) return;
        if (error instanceof CocoonError && !error.retryable)
          for (const wake of this.#wakes) wake.fail(error);
      }
      for (const wake of this.#wakes) wake.detach(connection);
      await connection[Symbol.asyncDispose]();
      await alarm.wait(backoff.next(), stopped);
    }
  }

  /** Listens until the connection ends, or its history is no longer the one that it began with. */
  async #follow(
    connection: Connection,
    stopped: AbortSignal,
    alarm: Alarm,
    works: () => void,
  ): Promise<void> {
    const over = AbortSignal.any([stopped, connection.over]);
    const heard = new Map<string, Set<Wake>>();
    const end = () => void connection[Symbol.asyncDispose]();
    let last: Tick | undefined;
    connection.listen(
      (prefix, message) => {
        const [branch, revision, stamp = "", tied] = message.split(" ");
        if (last === undefined) return;
        // Emptied, or lost and made the primary again: its revisions no longer follow those that the watches know.
        if (branch !== last.branch) return end();
        for (const wake of heard.get(prefix) ?? []) wake.announce({ revision: Number(revision), stamp });
        // A session that may end earlier than those known.
        if (tied === "1") alarm.ring();
      },
      () => end(),
    );
    while (!stopped.aborted) {
      const joining = await this.#listen(connection, heard, stopped);
      const now = await this.#tick(connection, [...heard.keys()], stopped);
      if (last !== undefined && (now.branch !== last.branch || now.revision < last.revision)) return;
      for (const wakes of heard.values()) {
        for (const wake of wakes) {
          if (joining.has(wake)) wake.attach(connection);
          // For a length that was unknown until now nothing was announced.
          else if (now.added) wake.doubt();
          else wake.told(now);
        }
      }
      if (last !== undefined) works();
      last = now;
      await alarm.wait(now.pauseMs, over, now.pauseMs === longestPauseMs ? earlyMs : 0);
    }
  }

  /** Brings the channels that are listened to in line with the watches; answers the watches that are new. */
  async #listen(
    connection: Connection,
    heard: Map<string, Set<Wake>>,
    signal: AbortSignal,
  ): Promise<ReadonlySet<Wake>> {
    const call: Call = { what: "listen to changes", writes: false, timeoutMs: silenceMs, signal };
    const joining = new Set<Wake>();
    for (const wake of [...this.#wakes]) {
      const wakes = heard.get(wake.prefix);
      if (wakes?.has(wake)) continue;
      joining.add(wake);
      if (wakes === undefined) await connection.setListening(wake.prefix, true, call);
      heard.set(wake.prefix, (wakes ?? new Set()).add(wake));
    }
    for (const [prefix, wakes] of [...heard]) {
      for (const wake of wakes) if (!this.#wakes.has(wake)) wakes.delete(wake);
      if (wakes.size > 0) continue;
      heard.delete(prefix);
      await connection.setListening(prefix, false, call);
    }
    return joining;
  }

  async #tick(connection: Connection, prefixes: readonly string[], signal: AbortSignal): Promise<Tick> {
    const call: Call = { what: "look after watches", writes: false, timeoutMs: silenceMs, signal };
    const lengths = new Set(prefixes.map((prefix) => Buffer.byteLength(prefix)));
    const reply = await connection.run(tick, [[...lengths].join(",")], call);
    const [, branch, revision, stamp, added, next] = reply;
    return {
      branch: String(branch),
      revision: Number(revision),
      stamp: String(stamp),
      added: added === 1,
      pauseMs: Number(next) < 0 ? longestPauseMs : Math.min(Number(next) + 1, longestPauseMs),
    };
  }
}

interface Tick {
  readonly branch: string;
  readonly revision: Revision;
  readonly stamp: string;
  readonly added: boolean;
  readonly pauseMs: number;
}
