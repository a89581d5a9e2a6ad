import type { Lease } from "./lease.ts";

export interface Endpoint {
  /** Dotted quad. */
  readonly address: string;
  readonly port: number;
}

/** A UDP socket on port 67 that sees one bridge. host-linux implements it; tests use `node:dgram`. */
export interface DhcpSocket {
  /** May fail or reject: the packet is then counted as lost, like any other lost datagram. */
  send(packet: Uint8Array, to: Endpoint): void | Promise<void>;
  /** Registers the one listener. The bytes are the listener's to keep: the socket does not reuse them. */
  onPacket(listener: (packet: Uint8Array, from: Endpoint) => void): void;
  close(): void | Promise<void>;
}

/** What the server asks of the kernel. Addresses are dotted quads; every call is idempotent. */
export interface LeaseNetwork {
  /** `ip route replace IP/32 dev BRIDGE`. */
  addRoute(ip: string): Promise<void>;
  /** The same for many, if they are cheaper together. @returns what went wrong, by address */
  addRoutes?(ips: readonly string[]): Promise<ReadonlyMap<string, unknown>>;
  /** Removes that route; one that is not there is no error. */
  removeRoute(ip: string): Promise<void>;
  /** Makes a unicast to `ip` reach `mac` before the client can answer ARP. */
  setNeighbour(ip: string, mac: string): Promise<void>;
}

/** Which port of the bridge a client is behind. host-linux asks the bridge's forwarding table. */
export interface BridgePorts {
  /** The name of the port; undefined when no port has the MAC. Asked for a client whose port is not known yet. */
  portOf(mac: string): string | undefined;
}

/** Finds out who uses an address. host-linux asks by ARP (RFC 5227 §2.1.1). */
export interface AddressProbe {
  /** The MAC of who answers for the address, lowercase; undefined when nobody does in time (at most 500 ms). */
  probe(ip: string): Promise<string | undefined>;
}

export interface Clock {
  /** Milliseconds since the epoch; must never step (see `steadyClock`). */
  now(): number;
}

export type ServerEvent =
  /** `tookMs`: from the packet's arrival to its ACK. */
  | { readonly type: "granted" | "renewed"; readonly lease: Lease; readonly tookMs: number }
  | { readonly type: "released" | "expired"; readonly lease: Lease }
  /** A client said that the address is in use by somebody else; `lease` is the one that ended with it. */
  | { readonly type: "declined"; readonly ip: string; readonly mac: string; readonly lease?: Lease }
  /** A lease that is there got its VM's id. */
  | { readonly type: "assigned"; readonly lease: Lease }
  /** A probe found the address used by this MAC, which has no lease of it: it was put aside instead of offered. */
  | { readonly type: "in-use"; readonly ip: string; readonly mac: string }
  /** A NAK, or no answer where a client needed one (`pool-empty`, `journal`, `route`). */
  | { readonly type: "refused"; readonly ip?: string; readonly mac: string; readonly reason: string }
  /** Something an operator should see; serving goes on. */
  | { readonly type: "problem"; readonly message: string; readonly error: unknown };

/**
 * Wall-clock time that cannot step: the wall clock as it was when this was called, moved on by the monotonic
 * clock. Expiries are stored in it, so a step of the wall clock under a running server ends no lease early
 * and prolongs none.
 */
export function steadyClock(
  wall: () => number = Date.now,
  monotonic: () => number = () => performance.now(),
): Clock {
  const offset = wall() - monotonic();
  return { now: () => Math.floor(offset + monotonic()) };
}
