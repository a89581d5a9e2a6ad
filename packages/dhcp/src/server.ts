import type { LeaseEngine, PoolCounts } from "./engine.ts";
import type { Journal, JournalStats } from "./journal.ts";
import type { LeasesFile } from "./leases-file.ts";
import type { Clock, DhcpSocket, HostNetwork, ServerEvent } from "./ports.ts";

export interface DhcpServerOptions {
  readonly engine: LeaseEngine;
  readonly journal: Journal;
  readonly leasesFile: LeasesFile;
  readonly socket: DhcpSocket;
  readonly network: HostNetwork;
  /** Default `steadyClock()`. */
  readonly clock?: Clock;
  readonly onEvent?: (event: ServerEvent) => void;
}

export interface ServerStats {
  readonly grants: { readonly ok: number; readonly failed: number };
  readonly pool: PoolCounts;
  /** Packets received, by message type. */
  readonly received: Readonly<Record<string, number>>;
  /** Answers sent: offer, ack, nak. */
  readonly sent: Readonly<Record<string, number>>;
  /** Packets that got no answer, by reason. */
  readonly dropped: Readonly<Record<string, number>>;
  readonly journal: JournalStats;
}

export class DhcpServer implements AsyncDisposable {
  constructor(_options: DhcpServerOptions) {}
  /** Restores the routes of all live leases, then serves (G9). */
  start(_signal?: AbortSignal): Promise<void> {
    return Promise.resolve();
  }
  stats(): ServerStats {
    throw new Error("not built yet");
  }
  async [Symbol.asyncDispose](): Promise<void> {}
}
