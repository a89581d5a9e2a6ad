import { setTimeout as pause } from "node:timers/promises";
import { DisposeStack, UnavailableError } from "@cocoon-net/core";
import { type CallOptions, type HostNetwork, openHostNetwork } from "./host-network.ts";
import { formatMAC, parseMAC } from "./mac-address.ts";
import type { Link } from "./rtnetlink.ts";

export interface BringUpOptions extends CallOptions {
  /** How long to wait for links that are not there yet. Default 30,000. */
  readonly timeoutMs?: number | undefined;
  /** Used, and left open. Default: one is opened for the call. */
  readonly network?: HostNetwork | undefined;
}

/** Links that carry the MAC address of the NIC below them. */
const STACKED: ReadonlySet<string> = new Set([
  "bond",
  "bridge",
  "ipvlan",
  "macvlan",
  "macvtap",
  "team",
  "vlan",
]);
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1_000;

/**
 * Sets the NICs with these MAC addresses up, waiting for those that are still being hot-plugged. An address behind a NIC
 * that is down is dead, so one missing NIC fails the call; the others are up by then.
 *
 * @returns the names of the links, in the order of `macs`
 * @throws {UnavailableError} when a NIC has not appeared in time; the message names it
 */
export async function bringUpLinksByMAC(
  macs: readonly string[],
  options: BringUpOptions = {},
): Promise<string[]> {
  const { signal, timeoutMs = 30_000 } = options;
  const wanted = macs.map((mac) => formatMAC(parseMAC(mac)));
  await using stack = new DisposeStack();
  const network = options.network ?? stack.use(openHostNetwork());
  const deadline = performance.now() + timeoutMs;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    const links = new Map<string, Link>();
    for (const link of await network.listLinks({ signal })) {
      if (link.mac !== undefined && !STACKED.has(link.kind ?? "")) links.set(link.mac, link);
    }
    const found = wanted.flatMap((mac) => links.get(mac) ?? []);
    for (const link of found) {
      if (!link.up) await network.setLinkUp(link.name, { signal });
    }
    if (found.length === wanted.length) return found.map((link) => link.name);
    const left = deadline - performance.now();
    if (left <= 0) {
      const missing = wanted.filter((mac) => !links.has(mac)).join(", ");
      throw new UnavailableError(`set NICs up: no link with MAC ${missing} within ${timeoutMs} ms`, {
        outcome: "none",
        hint: "check that the cloud has attached the interface to this instance",
      });
    }
    await pause(Math.min(pauseMs, left), undefined, { signal });
  }
}
