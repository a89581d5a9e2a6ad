import type { LeaseRecord } from "@cocoon-net/core";
import type { Announcement } from "@cocoon-net/host-linux";

/** For how long guests are told of what has changed behind an address. */
const homeMs = 60_000;
const neighboursMs = 10_000;

export interface MovedPlaces {
  /** Addresses of this node's subnet that are served elsewhere. */
  readonly away: readonly string[];
  /** Addresses of other subnets that are served here, each with its guest's gateway. */
  readonly guests: readonly { readonly address: string; readonly gateway: string }[];
}

export interface Neighbourhood {
  /** This node's. */
  readonly gateway: string;
  readonly leases: ReadonlyMap<string, LeaseRecord>;
  /** Whether an address is of this node's subnet. */
  isOwn(address: string): boolean;
}

/**
 * What guests have to be told by ARP: a guest that comes does so when it likes, so what it and its neighbours have in
 * their caches is put right again and again. Times are monotonic milliseconds.
 */
export class MoveAnnouncements {
  readonly #homeUntil = new Map<string, number>();
  readonly #awaySince = new Map<string, number>();

  /** Nothing is to be told as long as no address is moved. */
  get isIdle(): boolean {
    return this.#homeUntil.size === 0;
  }

  /** A guest of this node's subnet has come back. */
  cameHome(address: string, now: number): void {
    this.#homeUntil.set(address, now + homeMs);
  }

  due({ away, guests }: MovedPlaces, { gateway, leases, isOwn }: Neighbourhood, now: number): Announcement[] {
    const announcements: Announcement[] = [];
    for (const guest of guests) {
      const mac = leases.get(guest.address)?.mac;
      if (mac !== undefined) {
        announcements.push({ address: guest.gateway, guest: { address: guest.address, mac } });
      }
    }
    for (const [address, until] of this.#homeUntil) {
      const mac = leases.get(address)?.mac;
      if (now > until || mac === undefined) this.#homeUntil.delete(address);
      else announcements.push({ address: gateway, guest: { address, mac } });
    }
    for (const address of this.#recentlyAway(away, now)) {
      for (const [neighbour, { mac }] of leases) {
        if (isOwn(neighbour)) announcements.push({ address, guest: { address: neighbour, mac } });
      }
    }
    return announcements;
  }

  #recentlyAway(away: readonly string[], now: number): string[] {
    for (const ip of this.#awaySince.keys()) if (!away.includes(ip)) this.#awaySince.delete(ip);
    for (const ip of away) if (!this.#awaySince.has(ip)) this.#awaySince.set(ip, now);
    return away.filter((ip) => now - (this.#awaySince.get(ip) ?? now) <= neighboursMs);
  }
}
