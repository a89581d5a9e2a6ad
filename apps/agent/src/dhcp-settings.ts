import {
  type EngineOptions,
  engineDefaults,
  type FloodLimits,
  type OptionSettings,
  type Reservation,
} from "@cocoon-net/dhcp";

/** `dhcp` of the config file: how the built-in server serves. */
export interface DhcpConfig {
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

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** The fields that are set. */
export function present<T extends object>(fields: T): Present<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>;
}
