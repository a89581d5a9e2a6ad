import { type Address, netmaskOf } from "@cocoon-net/core";
import type { EngineOptions } from "./engine-options.ts";
import { addressBytes, encodeOptions, type OptionSet, type OptionSettings } from "./option-settings.ts";

/** What goes into every reply to a client, computed once. */
export interface ReplyParameters {
  /** Option 54. */
  readonly serverID: Address;
  readonly siaddr: Address;
  /** Options by code, in the order of importance; without those that depend on the lease. */
  readonly values: ReadonlyMap<number, Uint8Array>;
  readonly renewMs: number | undefined;
  readonly rebindMs: number | undefined;
}

const ROUTERS = 3;
const ROUTES = 121;
/** What a guest needs most, should not all of it fit. */
const important: readonly number[] = [1, ROUTERS, ROUTES, 6, 26];

/** The subnet's settings, and over them those of a reservation. A moved guest goes on with its home's mask and router. */
export function replyParameters(options: Required<EngineOptions>, own: OptionSettings = {}): ReplyParameters {
  const sets: readonly OptionSet[] = [
    encodeOptions(options.options, "options"),
    encodeOptions(own, "options"),
  ];
  const merged = new Map<number, Uint8Array>([
    [1, addressBytes(netmaskOf(options.subnet.prefix))],
    [ROUTERS, addressBytes(options.gateway)],
    [6, addressBytes(...options.dns)],
  ]);
  for (const { values } of sets) for (const [code, value] of values) merged.set(code, value);
  const routes = merged.get(ROUTES);
  const router = merged.get(ROUTERS)?.subarray(0, 4);
  if (routes !== undefined && routes.length > 0 && router?.length === 4 && !hasDefaultRoute(routes)) {
    merged.set(ROUTES, Uint8Array.of(...routes, 0, ...router));
  }
  const values = new Map<number, Uint8Array>();
  for (const code of [...important, ...merged.keys()]) {
    const value = merged.get(code);
    if (value !== undefined && value.length > 0) values.set(code, value);
  }
  const last = <K extends keyof OptionSet>(key: K): OptionSet[K] | undefined =>
    sets[1]?.[key] ?? sets[0]?.[key];
  return {
    serverID: options.gateway,
    siaddr: last("nextServer") ?? options.gateway,
    values,
    renewMs: last("renewMs"),
    rebindMs: last("rebindMs"),
  };
}

function hasDefaultRoute(routes: Uint8Array): boolean {
  for (let at = 0; at < routes.length; ) {
    const prefix = routes[at] ?? 0;
    if (prefix === 0) return true;
    at += 1 + Math.ceil(prefix / 8) + 4;
  }
  return false;
}
