import type { Store } from "@cocoon-net/core";
import { patiently } from "./patience.ts";

export type StoreKind = "etcd" | "redis";

/** Whose code does the work: this project's, or the vendor's client used by hand. */
export type Side = "ours" | "raw";

/** Which server, and below which prefix of it. Crosses process borders. */
export interface Target {
  readonly kind: StoreKind;
  readonly host: string;
  readonly port: number;
  /** With its leading slash, without a trailing one. */
  readonly prefix: string;
}

export async function openStore(target: Target): Promise<Store> {
  const url = `${target.kind}://${target.host}:${target.port}${target.prefix}`;
  // Each process loads one vendor client only: the other's weight would be in its resident size.
  const open =
    target.kind === "etcd"
      ? (await import("@cocoon-net/store-etcd")).openEtcdStore
      : (await import("@cocoon-net/store-redis")).openRedisStore;
  return patiently(() => open(url));
}
