import {
  Backoff,
  CocoonError,
  FencedError,
  heartbeat,
  type LeaseRecord,
  type NodeUpdate,
  type Registration,
  type Store,
  UnavailableError,
} from "@cocoon-net/core";
import type { LeaseBook } from "./lease-book.ts";
import { LeaseMirror } from "./lease-mirror.ts";
import type { Logger } from "./log.ts";

export type LinkState = "connecting" | "owned" | "unsure" | "lost";

export interface ClusterLinkOptions {
  readonly open: (signal: AbortSignal) => Promise<Store>;
  readonly register: (store: Store) => Promise<Registration>;
  readonly book: LeaseBook;
  readonly sessionTtlMs: number;
  /** How often pool use and the reach of the leases are published, if they changed; default 30 s. */
  readonly publishEveryMs?: number;
  readonly log: Logger;
}

/**
 * The node's tie to the store: registration, heartbeat, mirror, catch-up. Guests never wait for it. Without the
 * store it says so once, keeps what is to be written, and catches up when the store is back (G7).
 */
export class ClusterLink {
  readonly #options: ClusterLinkOptions;
  #state: LinkState = "connecting";
  #published = "";
  #mirror: LeaseMirror | undefined;

  constructor(options: ClusterLinkOptions) {
    this.#options = options;
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Addresses whose newest state is not in the store yet. */
  get mirrorLag(): number {
    return this.#mirror?.lag ?? 0;
  }

  /** Resolves when `signal` aborts, or when the subnet is lost for good. @throws what retrying cannot mend. */
  async run(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    const backoff = new Backoff({ firstMs: 500, maxMs: 10_000 });
    let reported = false;
    while (!signal.aborted) {
      try {
        await using store = await this.#options.open(signal);
        const registration = await this.#options.register(store);
        log.info({ store: store.label, ...store.capabilities }, "connected to the store");
        await this.#serve(store, registration, signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof FencedError) return this.#lost(error);
        if (!(error instanceof CocoonError && error.retryable)) throw error;
        if (!reported)
          log.warn({ err: error }, "the store cannot be reached; guests keep their leases, new ones wait");
        reported = true;
        await backoff.wait(signal).catch(() => undefined);
      }
    }
  }

  async #serve(store: Store, registration: Registration, signal: AbortSignal): Promise<void> {
    const { book, log, sessionTtlMs } = this.#options;
    await using mirror = new LeaseMirror(registration, {
      onProblem: (error) => log.warn({ err: error }, "leases cannot be mirrored now; they will be"),
      // The heartbeat sees the same and ends the link.
      onFenced: (error) => log.error(error.message),
    });
    this.#mirror = mirror;
    book.onChange((address, lease) => mirror.put(address, lease));
    const publishing = setInterval(
      () => void this.#publish(registration, signal),
      this.#options.publishEveryMs ?? 30_000,
    );
    publishing.unref();
    try {
      await heartbeat(store, registration, {
        ttlMs: sessionTtlMs,
        signal,
        onOwned: async () => {
          this.#state = "owned";
          book.setGranting("open");
          const differences = await mirror.catchUp(book.leases(), signal);
          log.info(
            { subnet: registration.subnet, epoch: registration.epoch, differences },
            "the subnet is ours",
          );
          await this.#publish(registration, signal);
        },
        onUnsure: () => {
          this.#state = "unsure";
          mirror.disconnected();
          // Nobody may free the subnet before the session's end by the store's clock; until it is proved ours
          // again, guests renew and nothing new is granted (G7).
          book.setGranting("renew-only");
          log.warn("the store does not confirm that the subnet is ours; renewing only");
        },
        onProblem: (error) => log.warn({ err: error }, "heartbeat"),
      });
    } finally {
      clearInterval(publishing);
    }
  }

  async #publish(registration: Registration, signal: AbortSignal): Promise<void> {
    const { book, log } = this.#options;
    const update: NodeUpdate = { pool: book.use(), ...reachOf(book.leases().values()) };
    const text = JSON.stringify(update);
    if (text === this.#published || this.#state !== "owned") return;
    try {
      await registration.update(update, { signal });
      this.#published = text;
    } catch (error) {
      if (signal.aborted || error instanceof FencedError || error instanceof UnavailableError) return;
      log.warn({ err: error }, "the node's record could not be updated");
    }
  }

  async #lost(error: FencedError): Promise<void> {
    const { book, log } = this.#options;
    this.#state = "lost";
    book.setGranting("refuse");
    log.error({ hint: error.hint }, `${error.message}; guests are told to leave their addresses`);
    await book.withdraw();
  }
}

/** How far the leases reach (G6). */
function reachOf(leases: Iterable<LeaseRecord>): { maxLeaseEnd?: string } {
  let last = "";
  for (const { expiry } of leases) if (expiry > last) last = expiry;
  return last === "" ? {} : { maxLeaseEnd: last };
}
