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
    else if (record.state !== "leased" && record.mac !== undefined) stale.push(ip);
  }
  return { stale, unexplained };
}

/** Puts an address aside for as long as an unknown lease of it can last. */
export function putAside(ip: string, until: number): AddressRecord {
  return { state: "declined", ip, until, expiry: 0, seq: 0 };
}
