import { hashOf } from "./hash.ts";
import type { BridgePorts } from "./ports.ts";
import type { DhcpRequest } from "./request.ts";

export interface Rate {
  readonly perSecond: number;
  /** How many may come at once. */
  readonly burst: number;
}

export interface FloodLimits {
  /** Relay agents that may speak for any number of clients, dotted quads. Default none. */
  readonly relays?: readonly string[];
  /** Messages of one client. Default 5/s, burst 20. */
  readonly perClient?: Rate;
  /** Messages of clients without lease or offer behind one bridge port. Default 50/s, burst 200. */
  readonly perPort?: Rate;
  /** Messages of clients without lease or offer altogether. Default 20,000/s, burst 20,000. */
  readonly total?: Rate;
}

export interface FloodGuardOptions extends FloodLimits {
  /** Tells the guests on the bridge apart. Without it clients are told apart by what they say, which a guest can forge. */
  readonly ports?: BridgePorts;
  /** Default random; decides which clients share a counter. */
  readonly seed?: number;
}

/** Why a message is dropped. Stable words: they are metric labels. */
export type FloodReason = "flood-client" | "flood-port" | "flood-total";

/** Clients whose address no bridge port has: one port to all limits. */
const unknownPort = "?";
const clientSlots = 1 << 14;

/**
 * Keeps one guest from using up the server or the pool. Its memory does not grow with the number of MACs that a guest makes
 * up, and it costs O(1) a message. Clients that hold a lease or an offer are limited each by itself only, so a flood keeps
 * nobody from renewing; new ones share the rate of their bridge port, so a flood keeps no other guest out.
 */
export class FloodGuard {
  readonly #ports: BridgePorts | undefined;
  readonly #seed: number;
  #limits: Limits;
  readonly #clients = new Float64Array(clientSlots);
  readonly #byPort = new Map<string, number>();
  #all = 0;

  constructor(options: FloodGuardOptions = {}) {
    this.#ports = options.ports;
    this.#seed = options.seed ?? Math.floor(Math.random() * 2 ** 32);
    this.#limits = limitsOf(options);
  }

  /**
   * Other limits, from the next message on; what is not given is the default. Counting begins anew: what was counted by
   * a slower rate would be held against a client for longer than the new one allows.
   */
  configure(limits: FloodLimits): void {
    this.#limits = limitsOf(limits);
    this.#clients.fill(0);
    this.#byPort.clear();
    this.#all = 0;
  }

  /** The bridge port of a client; undefined when there is nothing to tell ports by. */
  portOf(message: DhcpRequest, from: string): string | undefined {
    if (this.#ports === undefined || (message.giaddr !== 0 && this.#limits.relays.has(from)))
      return undefined;
    try {
      return this.#ports.portOf(message.mac) ?? unknownPort;
    } catch {
      return undefined; // the bridge cannot be asked: that is not the client's doing
    }
  }

  /**
   * Counts a message. @returns why it is to be dropped; undefined when it is not
   * @param isKnown the client holds a lease or an offer
   * @param now milliseconds that do not step
   */
  refusal(mac: string, isKnown: boolean, port: string | undefined, now: number): FloodReason | undefined {
    const slot = this.#slotOf(mac);
    const client = after(this.#limits.perClient, this.#clients[slot] ?? 0, now);
    if (client === undefined) return "flood-client";
    if (!isKnown) {
      if (port !== undefined) {
        const behind = after(this.#limits.perPort, this.#byPort.get(port) ?? 0, now);
        if (behind === undefined) return "flood-port";
        this.#byPort.set(port, behind);
      }
      const all = after(this.#limits.total, this.#all, now);
      if (all === undefined) return "flood-total";
      this.#all = all;
    }
    this.#clients[slot] = client;
    return undefined;
  }

  #slotOf(mac: string): number {
    const hash = hashOf(mac, this.#seed);
    return (hash ^ (hash >>> 15)) & (clientSlots - 1);
  }
}

/** The generic cell rate algorithm (ITU-T I.371): one number, the time until which the messages so far were paid for. */
interface Pace {
  readonly intervalMs: number;
  readonly allowanceMs: number;
}

interface Limits {
  readonly relays: ReadonlySet<string>;
  readonly perClient: Pace;
  readonly perPort: Pace;
  readonly total: Pace;
}

function limitsOf({
  relays,
  perClient = { perSecond: 5, burst: 20 },
  perPort = { perSecond: 50, burst: 200 },
  total = { perSecond: 20_000, burst: 20_000 },
}: FloodLimits): Limits {
  return {
    relays: new Set(relays),
    perClient: paceOf(perClient),
    perPort: paceOf(perPort),
    total: paceOf(total),
  };
}

function paceOf({ perSecond, burst }: Rate): Pace {
  const intervalMs = 1000 / perSecond;
  return { intervalMs, allowanceMs: intervalMs * (burst - 1) };
}

/** The new time; undefined when the message comes too early. */
function after(pace: Pace, paidUntil: number, now: number): number | undefined {
  const from = Math.max(paidUntil, now);
  return from - now > pace.allowanceMs ? undefined : from + pace.intervalMs;
}
