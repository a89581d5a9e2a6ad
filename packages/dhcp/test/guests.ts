import { type Decision, type Grant, LeaseEngine, type Offer } from "@cocoon-net/dhcp";
import { expect } from "vitest";
import { gateway, type Message, optionsWithPool, request } from "./client-messages.ts";

export const T: number = Date.UTC(2026, 10, 1);
export const minute = 60_000;
export const hour: number = 60 * minute;
export const day: number = 24 * hour;

/** Guests that talk to an engine, and what they hear. */
export class Guests {
  readonly engine: LeaseEngine;

  constructor(engine: LeaseEngine = new LeaseEngine(optionsWithPool(2))) {
    this.engine = engine;
  }

  send(message: Message, now = T): Decision {
    return this.engine.handle(request(message), now);
  }

  discover(mac: string, now = T, requested?: string): string | undefined {
    const decision = this.send({ type: "discover", mac, ...(requested && { requested }) }, now);
    return decision.kind === "offer" ? ipOf(decision) : undefined;
  }

  /** REQUEST in SELECTING. */
  select(mac: string, requested: string, now = T): Decision {
    return this.send({ type: "request", mac, requested, server: gateway }, now);
  }

  /** REQUEST in RENEWING or REBINDING. */
  renew(mac: string, ciaddr: string, now = T): Decision {
    return this.send({ type: "request", mac, ciaddr }, now);
  }

  /** REQUEST in INIT-REBOOT. */
  reboot(mac: string, requested: string, now = T): Decision {
    return this.send({ type: "request", mac, requested }, now);
  }

  /** The whole exchange. */
  lease(mac: string, now = T): Grant {
    const ip = this.discover(mac, now);
    return this.take(this.select(mac, ip ?? "0.0.0.0", now));
  }

  take(decision: Decision): Grant {
    if (decision.kind !== "grant") throw new Error(`not a grant: ${JSON.stringify(decision)}`);
    expect(this.engine.commit(decision)).toBe(true);
    return decision;
  }

  release(mac: string, ciaddr: string, now = T): Decision {
    return this.send({ type: "release", mac, ciaddr, server: gateway }, now);
  }

  live(): string[] {
    return [...this.engine.leases()].map(({ ip, mac }) => `${ip} ${mac}`).toSorted();
  }
}

export const ipOf = (offer: Offer): string => `10.0.0.${offer.address & 255}`;
export const refusal = (decision: Decision): string =>
  decision.kind === "nak" || decision.kind === "silence"
    ? `${decision.kind} ${decision.reason}`
    : decision.kind;
