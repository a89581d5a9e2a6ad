import type { Link, LinkSelector } from "./rtnetlink.ts";
import { RtnetlinkHostNetwork } from "./rtnetlink-host-network.ts";

export interface CallOptions {
  /** Takes a call back that has not reached the kernel yet; one that has is finished. */
  readonly signal?: AbortSignal | undefined;
}

export interface HostNetworkOptions {
  /** Deadline of one request to the kernel. Default 5,000. */
  readonly timeoutMs?: number;
}

/**
 * Links, IPv4 addresses, host routes and neighbours of the network namespace that the process runs in.
 *
 * All calls throw {@link https://man7.org/linux/man-pages/man7/rtnetlink.7.html | rtnetlink} refusals as core's errors:
 * `auth` (EPERM), `not-found` (no such link), `conflict` (EEXIST, EBUSY), `unavailable` (no answer within the deadline),
 * `invalid` (malformed argument), else `kernel`; the message names the operation, its object and the errno.
 */
export interface HostNetwork extends AsyncDisposable {
  /** For a MAC, the first link that has it. */
  getLink(by: LinkSelector, options?: CallOptions): Promise<Link | undefined>;
  listLinks(options?: CallOptions): Promise<Link[]>;
  /**
   * Creates the bridge unless it is there.
   *
   * @param options.mac fixes the bridge's MAC address; without it the kernel derives it from the ports, anew whenever one
   *   joins or leaves
   * @returns whether it was created
   * @throws {ConflictError} when the name belongs to a link that is no bridge
   */
  ensureBridge(name: string, options?: CallOptions & { readonly mac?: string }): Promise<boolean>;
  /** @returns whether it was down */
  setLinkUp(name: string, options?: CallOptions): Promise<boolean>;
  /** @returns whether it was up */
  setLinkDown(name: string, options?: CallOptions): Promise<boolean>;
  /** @returns whether there was such a link */
  deleteLink(name: string, options?: CallOptions): Promise<boolean>;
  /** With prefix length: `172.20.100.1/24`. */
  listAddresses(device: string, options?: CallOptions): Promise<string[]>;
  /**
   * Puts `172.20.100.1/24` on the device. The same address with another prefix length is taken off: its connected route
   * would cover the wrong range.
   *
   * @returns whether anything changed
   */
  ensureAddress(address: string, device: string, options?: CallOptions): Promise<boolean>;
  /** @returns whether the device had it */
  deleteAddress(address: string, device: string, options?: CallOptions): Promise<boolean>;
  /** Installs `address/32 dev device scope link` in the main table, in place of any other route to that /32. */
  replaceHostRoute(address: string, device: string, options?: CallOptions): Promise<void>;
  /**
   * The same for many addresses at the cost of few, in no order.
   *
   * @returns what went wrong, by address
   */
  replaceHostRoutes(
    addresses: readonly string[],
    device: string,
    options?: CallOptions,
  ): Promise<ReadonlyMap<string, unknown>>;
  /** @returns whether there was such a route */
  deleteHostRoute(address: string, device: string, options?: CallOptions): Promise<boolean>;
  /** Addresses of the /32 routes of scope link to the device in the main table, in ascending order. */
  listHostRoutes(device: string, options?: CallOptions): Promise<string[]>;
  /**
   * Installs `address/32` through the default route's gateway, on `device` if there is a default route there, in place of
   * any other route to that /32, and marks it.
   *
   * @throws {NotFoundError} when there is no default route
   */
  replaceRouteAway(address: string, device: string | undefined, options?: CallOptions): Promise<void>;
  /** Deletes a route of `replaceRouteAway`. @returns whether there was one */
  deleteRouteAway(address: string, options?: CallOptions): Promise<boolean>;
  /** Addresses of the routes of `replaceRouteAway`, in ascending order. */
  listRoutesAway(options?: CallOptions): Promise<string[]>;
  /**
   * Enters the MAC address for an IPv4 address as stale: the kernel sends to it at once without asking, verifies it a few
   * seconds later and lets it expire.
   */
  replaceNeighbour(address: string, mac: string, device: string, options?: CallOptions): Promise<void>;
  /** @returns whether there was such an entry */
  deleteNeighbour(address: string, device: string, options?: CallOptions): Promise<boolean>;
}

/** @throws {CocoonError} when the kernel gives no netlink socket */
export function openHostNetwork(options: HostNetworkOptions = {}): HostNetwork {
  return new RtnetlinkHostNetwork(options.timeoutMs ?? 5_000);
}
