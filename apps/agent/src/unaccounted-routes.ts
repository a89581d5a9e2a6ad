import type { AddressRecord, EngineState } from "@cocoon-net/dhcp";

export interface RouteFindings {
  /** Routes of leases that have ended: a crash came between the end and the removal. */
  readonly stale: readonly string[];
  /** Addresses with a route that no record explains: somebody may still use them. */
  readonly unexplained: readonly string[];
}

/** Compares the host routes that stand with what is known about leases (G9). Only the pool's addresses count. */
export function examineRoutes(
  routes: readonly string[],
  pool: readonly string[],
  local: EngineState,
): RouteFindings {
  const ours = new Set(pool);
  const records = new Map(local.records.map((record) => [record.ip, record]));
  const stale: string[] = [];
  const unexplained: string[] = [];
  for (const ip of routes) {
    if (!ours.has(ip)) continue;
    const record = records.get(ip);
    if (record === undefined) unexplained.push(ip);
    else if (record.state !== "leased" && record.expiry > 0) stale.push(ip);
  }
  return { stale, unexplained };
}

/**
 * Puts an address aside for as long as an unknown lease of it can last. The guest that the kernel has seen behind it
 * may have it meanwhile, nobody else.
 */
export function putAside(ip: string, mac: string | undefined, until: number): AddressRecord {
  const never = { ip, until, expiry: 0, seq: 0 };
  return mac === undefined ? { state: "declined", ...never } : { state: "ended", mac, ...never };
}

/**
 * Who is behind which address, from the text of `/proc/net/arp` (proc_net_arp(5)): address, type, flags, MAC, mask,
 * device. Flag 0x2 says that the MAC is known.
 */
export function parseArpTable(text: string, device: string): Map<string, string> {
  const rows = text.split("\n").slice(1);
  return new Map(
    rows
      .map((row) => row.trim().split(/\s+/))
      .filter(([, , flags, , , on]) => on === device && (Number(flags) & 0x2) !== 0)
      .map(([ip = "", , , mac = ""]) => [ip, mac.toLowerCase()]),
  );
}
