import {
  Backoff,
  CocoonError,
  decode,
  describeError,
  FencedError,
  heartbeat,
  InvalidError,
  keys,
  type LeaseRecord,
  type NodeUpdate,
  nodeSchema,
  type Registration,
  repeatTogether,
  type Store,
  UnavailableError,
} from "@cocoon-net/core";
import type { LeaseBook } from "./lease-book.ts";
import { LeaseMirror } from "./lease-mirror.ts";
import type { Logger } from "./log.ts";
import type { MovedGuests } from "./moved-guests.ts";
import { watchNode } from "./node-watch.ts";

/** `owned`: the store confirms the subnet. `unsure`: it did once. `lost`: it belongs to somebody else. */
export type LinkState = "connecting" | "owned" | "unsure" | "lost";

export interface ClusterLinkOptions {
  readonly open: (signal: AbortSignal) => Promise<Store>;
  /** Proves who this node is, against the store. */
  readonly register: (store: Store) => Promise<Registration>;
  readonly book: LeaseBook;
  /** This node's part in moves; without it the node takes none. */
  readonly moved?: MovedGuests | undefined;
  readonly sessionTtlMs: number;
  /**
   * False for a node that joins now: what the store refuses then ends the link. A node that has joined before keeps
   * serving its guests whatever the store says, except that its subnet is gone. Default true.
   */
  readonly joined?: boolean;
  /** What the node says about itself whenever it connects. */
  readonly facts?: NodeUpdate;
  /** Called when the subnet is lost, once new grants have stopped. */
  readonly onLost?: () => Promise<void>;
  /** How often pool use and the reach of the leases are published, if they changed; default the session's TTL. */
  readonly publishEveryMs?: number;
  readonly log: Logger;
}

/**
 * The node's tie to the store: registration, heartbeat, mirror, catch-up. Guests never wait for it. Without the
 * store it says so once, keeps what is to be written, and catches up when the store is back (G7).
 */
export class ClusterLink {
  readonly #options: ClusterLinkOptions;
  #facts: NodeUpdate;
  /** Why the machine is about to end, once anything is known of that. */
  #departure: { readonly why: string | undefined } | undefined;
  #sayDeparture: (() => Promise<void>) | undefined;
  /** Set while the subnet is ours. */
  #sayFacts: (() => Promise<void>) | undefined;
  #state: LinkState = "connecting";
  /** Grows with every change of what the store has confirmed; what began before a change is out of date. */
  #turn = 0;
  #joined: boolean;
  #published = "";
  /** An operator wants the node to leave: guests renew, nobody new is let in. */
  #draining = false;
  #mirror: LeaseMirror | undefined;

  constructor(options: ClusterLinkOptions) {
    this.#options = options;
    this.#facts = { ...options.facts, runningSince: new Date().toISOString() };
    this.#joined = options.joined ?? true;
  }

  get state(): LinkState {
    return this.#state;
  }

  /** An operator wants the node to leave. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Addresses whose newest state is not in the store yet. */
  get mirrorLag(): number {
    return this.#mirror?.lag ?? 0;
  }

  /** Says something new about the node: at once, or when the store is there. */
  async tell(facts: NodeUpdate): Promise<void> {
    this.#facts = { ...this.#facts, ...facts };
    await this.#sayFacts?.();
  }

  /** The machine is about to end, or is not: the node drains by itself, at once or when the store is there. */
  async depart(why: string | undefined): Promise<void> {
    this.#departure = { why };
    await this.#sayDeparture?.();
  }

  /** Resolves when `signal` aborts, or when the subnet is lost for good. @throws what retrying cannot mend */
  async run(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    const backoff = new Backoff({ firstMs: 500, maxMs: 10_000 });
    let opened = false;
    let reported = "";
    while (!signal.aborted) {
      try {
        await using store = await this.#options.open(signal);
        opened = true;
        const registration = await this.#options.register(store);
        this.#joined = true;
        log.info({ store: store.label, ...store.capabilities }, "connected to the store");
        if ((await this.#serve(store, registration, signal)) === "stopped") return;
        return await this.#lost();
      } catch (error) {
        if (signal.aborted) return;
        // A URL that cannot work is the operator's, whoever this node is.
        const hopeless = error instanceof InvalidError && !opened;
        const retryable = error instanceof CocoonError && error.retryable;
        if (hopeless || (!this.#joined && !retryable)) throw error;
        const problem = describeError(error);
        if (problem !== reported) {
          log.warn({ err: error }, `no store: guests keep their leases, new ones wait: ${problem}`);
        }
        reported = problem;
        await backoff.wait(signal).catch(() => undefined);
      }
    }
  }

  async #serve(store: Store, registration: Registration, signal: AbortSignal): Promise<"stopped" | "lost"> {
    const { book, moved, log, sessionTtlMs, publishEveryMs = sessionTtlMs } = this.#options;
    await using mirror = new LeaseMirror(registration, {
      onProblem: (error) => log.warn({ err: error }, "leases cannot be mirrored now; they will be"),
      // The heartbeat sees the same and ends the link.
      onFenced: (error) => log.error(error.message),
    });
    this.#mirror = mirror;
    book.onChange((address, lease) => {
      if (!moved?.changed(address, lease)) mirror.put(address, lease);
    });
    const endPublishing = repeatTogether(publishEveryMs, publishEveryMs / 10, () => {
      void this.#publish(registration, {}, signal);
    });
    const ended = new AbortController();
    const until = AbortSignal.any([signal, ended.signal]);
    const read = Promise.withResolvers<void>();
    const following = Promise.all([
      this.#followDrain(store, registration, mirror, until),
      this.#followMoves({ store, registration, mirror, signal: until }, read.resolve),
    ]);
    try {
      await heartbeat(store, registration, {
        ttlMs: sessionTtlMs,
        signal,
        onOwned: async () => {
          // G9: what is served elsewhere is held back before the first grant.
          await Promise.race([read.promise, aborted(until)]);
          await this.#owned(store, registration, mirror, signal);
        },
        onUnsure: () => {
          this.#turn++;
          this.#state = "unsure";
          mirror.disconnected();
          // Nobody may free the subnet before the session's end by the store's clock; until it is proved ours
          // again, guests renew and nothing new is granted (G7).
          book.setGranting("renew-only");
          log.warn("the store does not confirm that the subnet is ours; renewing only");
        },
        onProblem: (error) => log.warn({ err: error }, `heartbeat: ${describeError(error)}`),
      });
      return "stopped";
    } catch (error) {
      // On evidence only: a store that was emptied, or holds another cluster, says nothing about this subnet (G8).
      if (!(error instanceof FencedError)) throw error;
      log.error({ hint: error.hint }, error.message);
      return "lost";
    } finally {
      endPublishing();
      ended.abort();
      await following;
    }
  }

  async #followMoves(session: Parameters<MovedGuests["follow"]>[0], onRead: () => void): Promise<void> {
    const { moved, log } = this.#options;
    if (!moved) return onRead();
    const backoff = new Backoff({ firstMs: 200, maxMs: 5_000 });
    while (!session.signal.aborted) {
      try {
        await moved.follow(session, onRead);
      } catch (error) {
        if (session.signal.aborted) return;
        log.error({ err: error }, `moved addresses cannot be followed: ${describeError(error)}`);
      }
      await backoff.wait(session.signal).catch(() => undefined);
    }
  }

  async #followDrain(
    store: Store,
    registration: Registration,
    mirror: LeaseMirror,
    signal: AbortSignal,
  ): Promise<void> {
    const { log } = this.#options;
    let telling: Promise<void> | undefined;
    let turn: AbortController | undefined;
    try {
      for await (const { status, grantsStopped } of watchNode(store, registration.node, signal)) {
        this.#setDraining(status === "draining");
        if (this.#draining && grantsStopped === undefined && telling === undefined) {
          turn = new AbortController();
          telling = this.#tellDrained(registration, mirror, AbortSignal.any([signal, turn.signal]));
        } else if (!this.#draining) {
          turn?.abort();
          await telling;
          telling = undefined;
        }
      }
    } catch (error) {
      if (!signal.aborted)
        log.error({ err: error }, `the node's record cannot be followed: ${describeError(error)}`);
    }
    turn?.abort();
    await telling;
  }

  /** Says that nothing new is granted any more, once every lease that was is in the store. */
  async #tellDrained(registration: Registration, mirror: LeaseMirror, signal: AbortSignal): Promise<void> {
    const { book, log } = this.#options;
    const backoff = new Backoff({ firstMs: 200, maxMs: 5_000 });
    while (!signal.aborted) {
      try {
        if (this.#state === "owned") {
          const stored = await registration.mirrored({ signal });
          if (this.#draining && mirror.catchUp(book.leases(), stored) === 0) {
            await registration.update({ grantsStopped: new Date().toISOString() }, { signal });
            log.info(
              { leases: book.leases().size },
              "nothing new is granted; the node leaves with its last guest",
            );
            return;
          }
        }
      } catch (error) {
        if (!signal.aborted)
          log.warn({ err: error }, `the drain cannot be confirmed yet: ${describeError(error)}`);
      }
      await backoff.wait(signal).catch(() => undefined);
    }
  }

  #setDraining(draining: boolean): void {
    if (draining === this.#draining) return;
    this.#draining = draining;
    this.#options.log.warn(
      draining
        ? "the node is to leave: guests renew, nothing new is granted"
        : "the node stays: it grants again",
    );
    if (this.#state === "owned") this.#allow();
  }

  #allow(): void {
    this.#options.book.setGranting(this.#draining ? "renew-only" : "open");
  }

  async #owned(
    store: Store,
    registration: Registration,
    mirror: LeaseMirror,
    signal: AbortSignal,
  ): Promise<void> {
    const { book, log } = this.#options;
    const turn = ++this.#turn;
    // G9: merged before the first grant.
    const stored = await registration.mirrored({ signal });
    const adopted = await book.adopt(stored);
    if (adopted > 0) {
      log.warn({ leases: adopted }, "took leases from the store that are not in this node's own files");
    }
    const { entry } = await store.get(keys.node(registration.node), { signal });
    if (turn !== this.#turn) return;
    this.#state = "owned";
    book.setLeaseTime(registration.config.leaseMs);
    // Before the first grant, not when the watch tells: who has said that nothing is granted must keep to it.
    this.#setDraining(entry !== undefined && decode(nodeSchema, entry).status === "draining");
    this.#allow();
    const differences = mirror.catchUp(book.leases(), stored);
    log.info({ subnet: registration.subnet, epoch: registration.epoch, differences }, "the subnet is ours");
    this.#sayFacts = () => this.#publish(registration, this.#facts, signal);
    this.#sayDeparture = () => this.#publishDeparture(registration, signal);
    await this.#sayFacts();
    await this.#sayDeparture();
  }

  async #publish(registration: Registration, facts: NodeUpdate, signal: AbortSignal): Promise<void> {
    const { book, log } = this.#options;
    if (this.#state !== "owned") return;
    const use: NodeUpdate = { pool: book.use(), ...reachOf(book.leases().values()) };
    const text = JSON.stringify(use);
    if (text === this.#published && Object.keys(facts).length === 0) return;
    try {
      await registration.update({ ...facts, ...use }, { signal });
      this.#published = text;
    } catch (error) {
      if (signal.aborted || error instanceof FencedError || error instanceof UnavailableError) return;
      log.warn({ err: error }, "the node's record could not be updated");
    }
  }

  async #publishDeparture(registration: Registration, signal: AbortSignal): Promise<void> {
    if (this.#departure === undefined || this.#state !== "owned") return;
    try {
      await registration.depart(this.#departure.why, { signal });
    } catch (error) {
      // Said again when the subnet is next confirmed; the heartbeat sees a lost one.
      if (signal.aborted || error instanceof FencedError) return;
      this.#options.log.warn(
        { err: error },
        `that the machine ends is not told yet: ${describeError(error)}`,
      );
    }
  }

  async #lost(): Promise<void> {
    const { book, log, onLost } = this.#options;
    this.#turn++;
    this.#state = "lost";
    book.setGranting("refuse"); // G3
    log.error(`the subnet is lost: ${book.whenLost}`);
    for (const step of [() => book.withdraw(), () => onLost?.()]) {
      try {
        await step();
      } catch (error) {
        log.error({ err: error }, describeError(error));
      }
    }
  }
}

/** Resolves when the signal aborts. */
function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** How far the leases reach (G6). */
function reachOf(leases: Iterable<LeaseRecord>): { maxLeaseEnd?: string } {
  let last = "";
  for (const { expiry } of leases) if (expiry > last) last = expiry;
  return last === "" ? {} : { maxLeaseEnd: last };
}
