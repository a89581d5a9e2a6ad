import { InvalidError, parseAddress, parseCidr } from "@cocoon-net/core";
import {
  type EngineOptions,
  emptyState,
  engineDefaults,
  type FloodLimits,
  LeaseEngine,
  type OptionSettings,
  type Reservation,
} from "@cocoon-net/dhcp";
import type { PoolFile } from "./state-directory.ts";

/** `dhcp` of the config file: how the built-in server serves. */
export interface DhcpConfig {
  /** File and line, for messages. */
  readonly at?: string | undefined;
  /** Without a store; with one the cluster's lease time counts. Milliseconds. */
  readonly leaseMs?: number | undefined;
  readonly coolDownMs?: number | undefined;
  readonly declineMs?: number | undefined;
  readonly rapidCommit?: boolean | undefined;
  /** Asks by ARP before an address is offered that somebody had before. Default true. */
  readonly probe?: boolean | undefined;
  readonly leasesPerPort?: number | undefined;
  readonly options?: OptionSettings | undefined;
  readonly reservations?: readonly Reservation[] | undefined;
  readonly limits?: FloodLimits | undefined;
}

/** What the engine is told: what is not set is as it is without a config file. */
export function engineSettings(dhcp: DhcpConfig): Partial<EngineOptions> {
  const { coolDownMs, declineMs, rapidCommit, leasesPerPort, options, reservations } = dhcp;
  return {
    ...engineDefaults,
    ...present({ coolDownMs, declineMs, rapidCommit, leasesPerPort, options, reservations }),
  };
}

/**
 * That the engine takes these settings in a node's subnet.
 * @throws {InvalidError} naming file and line
 */
export function checkDhcp(dhcp: DhcpConfig, { subnet, gateway }: Pick<PoolFile, "subnet" | "gateway">): void {
  const node = { subnet: parseCidr(subnet), gateway: parseAddress(gateway), pool: [] };
  try {
    new LeaseEngine({ ...node, ...engineSettings(dhcp) }, emptyState);
  } catch (error) {
    if (!(error instanceof InvalidError) || dhcp.at === undefined) throw error;
    throw new InvalidError(`${dhcp.at}: ${error.message}`, {
      cause: error,
      ...present({ hint: error.hint }),
    });
  }
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** The fields that are set. */
export function present<T extends object>(fields: T): Present<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>;
}
