import type { Registration } from "@cocoon-net/core";
import { expect } from "vitest";
import { ClusterLink } from "../../src/cluster-link.ts";
import { recordedRegistration } from "../../src/cluster-membership.ts";
import { openStore } from "../../src/drivers.ts";
import { createLogger } from "../../src/log.ts";
import { type OnRecord, onRecord } from "./both-stores.ts";

/** What of a daemon has to do with the store. */
export class Daemon implements AsyncDisposable {
  readonly granted: string[] = [];
  withdrawn = false;
  owned: Registration | undefined;
  #file: OnRecord;
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(file: OnRecord) {
    this.#file = file;
  }

  get granting(): string | undefined {
    return this.granted.at(-1);
  }

  run(url: string): void {
    this.#stop = new AbortController();
    this.granted.push("starts");
    const link = new ClusterLink({
      open: (signal) => openStore(url, { signal }),
      register: async (store) => {
        this.owned = await recordedRegistration(store, this.#file);
        this.#file = onRecord(this.owned, store);
        return this.owned;
      },
      book: {
        whenLost: "",
        leases: () => new Map(),
        use: () => ({ size: 1, leased: 0, free: 1 }),
        adopt: async () => 0,
        setGranting: (granting) => void this.granted.push(granting),
        setLeaseTime: () => {},
        withdraw: async () => {
          this.withdrawn = true;
        },
        onChange: () => {},
        [Symbol.asyncDispose]: async () => {},
      },
      sessionTtlMs: 60_000,
      log: createLogger({ COCOON_NET_LOG_LEVEL: "silent" }),
    });
    this.#running = link.run(this.#stop.signal);
  }

  async grants(): Promise<void> {
    await expect.poll(() => this.granting, { timeout: 60_000 }).toBe("open");
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
