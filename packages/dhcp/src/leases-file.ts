import type { Lease } from "./lease.ts";

/** One entry of `leases.json`, with the expiry as milliseconds since the epoch. */
export type FileLease = Pick<Lease, "mac" | "ip" | "expiry">;

export interface LeasesFileOptions {
  /** Called when a write fails; it is retried. */
  readonly onProblem?: (error: unknown) => void;
}

/** Keeps today's `leases.json` equal to the live leases, at most 100 ms behind. */
export class LeasesFile implements AsyncDisposable {
  constructor(_path: string, _options?: LeasesFileOptions) {}
  async [Symbol.asyncDispose](): Promise<void> {}
}
