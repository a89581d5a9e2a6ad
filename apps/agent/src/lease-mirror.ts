import {
  Backoff,
  FencedError,
  type LeaseRecord,
  type MirrorChange,
  pause,
  type Registration,
} from "@cocoon-net/core";

export interface LeaseMirrorOptions {
  /** How long changes of one address are gathered; default 50 ms. */
  readonly gatherMs?: number;
  /** A problem that will be tried again; once per outage. */
  readonly onProblem?: (error: unknown) => void;
  readonly onFenced: (error: FencedError) => void;
}

/**
 * Copies leases to the store, asynchronously: never in a guest's way. Newest state wins per address; what could
 * not be written is kept and written when the store is back.
 */
export class LeaseMirror implements AsyncDisposable {
  readonly #registration: Registration;
  readonly #options: LeaseMirrorOptions;
  /** Written about elsewhere. */
  readonly #excluded = new Set<string>();
  #writing: Promise<unknown> = Promise.resolve();
  readonly #pending = new Map<string, LeaseRecord | undefined>();
  readonly #stop = new AbortController();
  #wake: (() => void) | undefined;
  #running: Promise<void>;
  #connected = false;

  constructor(registration: Registration, options: LeaseMirrorOptions) {
    this.#registration = registration;
    this.#options = options;
    this.#running = this.#run();
  }

  /** Addresses whose newest state is not in the store yet. */
  get lag(): number {
    return this.#pending.size;
  }

  /** From when this resolves on nothing is written about the address. */
  async exclude(address: string): Promise<void> {
    this.#excluded.add(address);
    this.#pending.delete(address);
    await this.#writing;
  }

  include(address: string): void {
    this.#excluded.delete(address);
  }

  put(address: string, lease: LeaseRecord | undefined): void {
    if (this.#excluded.has(address)) return;
    this.#pending.delete(address);
    this.#pending.set(address, lease);
    this.#wake?.();
  }

  /**
   * Makes the store, which holds `stored`, equal to `leases`: what differs is written, what is no longer leased is
   * removed. The book must have taken in what it did not know first. @returns how many addresses differ
   */
  catchUp(leases: ReadonlyMap<string, LeaseRecord>, stored: ReadonlyMap<string, LeaseRecord>): number {
    let differences = 0;
    for (const [address, lease] of leases) {
      if (this.#excluded.has(address)) continue;
      const known = stored.get(address);
      if (known && sameLease(known, lease)) continue;
      differences++;
      if (!this.#pending.has(address)) this.put(address, lease);
    }
    for (const [address, lease] of stored) {
      if (leases.has(address) || lease.node !== this.#registration.node || this.#excluded.has(address))
        continue;
      differences++;
      if (!this.#pending.has(address)) this.put(address, undefined);
    }
    this.#connected = true;
    this.#wake?.();
    return differences;
  }

  /** Stops trying until the next `catchUp`. */
  disconnected(): void {
    this.#connected = false;
  }

  /** Writes what is pending, for at most `timeoutMs`, and stops. */
  async [Symbol.asyncDispose](timeoutMs = 2_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (
      this.#connected &&
      this.#pending.size > 0 &&
      performance.now() < deadline &&
      !this.#stop.signal.aborted
    ) {
      await pause(20);
    }
    this.#stop.abort();
    this.#wake?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    const backoff = new Backoff({ firstMs: 200, maxMs: 5_000 });
    let reported = false;
    while (!this.#stop.signal.aborted) {
      if (!this.#connected || this.#pending.size === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      try {
        await pause(this.#options.gatherMs ?? 50, this.#stop.signal);
        const batch: MirrorChange[] = [...this.#pending];
        const writing = this.#registration.mirror(batch, { signal: this.#stop.signal });
        this.#writing = writing.catch(() => undefined);
        await writing;
        for (const [address, lease] of batch) {
          if (this.#pending.get(address) === lease) this.#pending.delete(address);
        }
        backoff.reset();
        reported = false;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        if (error instanceof FencedError) {
          this.#options.onFenced(error);
          return;
        }
        if (!reported) this.#options.onProblem?.(error);
        reported = true;
        await backoff.wait(this.#stop.signal).catch(() => undefined);
      }
    }
  }
}

function sameLease(a: LeaseRecord, b: LeaseRecord): boolean {
  return (
    a.mac === b.mac &&
    a.expiry === b.expiry &&
    a.seq === b.seq &&
    a.vmID === b.vmID &&
    a.hostname === b.hostname
  );
}
