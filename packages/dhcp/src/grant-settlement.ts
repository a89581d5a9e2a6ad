import { parseAddress } from "@cocoon-net/core";
import type { Grant } from "./decision.ts";
import type { Effects } from "./effects.ts";
import type { LeaseEngine } from "./engine.ts";
import type { Secured } from "./grant-batches.ts";
import type { Clock } from "./ports.ts";
import type { Received, Replies } from "./replies.ts";
import type { Answer } from "./reply.ts";

export interface GrantSettlementOptions {
  readonly engine: LeaseEngine;
  readonly clock: Clock;
  readonly effects: Effects;
  readonly replies: Replies;
  /** Called when something has come to end earlier than before. */
  readonly arm: () => void;
}

/** The end of a grant: committed and acknowledged when it is on disk and routed (G2), else taken back. */
export class GrantSettlement {
  readonly #engine: LeaseEngine;
  readonly #clock: Clock;
  readonly #effects: Effects;
  readonly #replies: Replies;
  readonly #arm: () => void;
  readonly #counts = { ok: 0, failed: 0 };

  constructor({ engine, clock, effects, replies, arm }: GrantSettlementOptions) {
    this.#engine = engine;
    this.#clock = clock;
    this.#effects = effects;
    this.#replies = replies;
    this.#arm = arm;
  }

  get counts(): { readonly ok: number; readonly failed: number } {
    return { ...this.#counts };
  }

  /** @returns what is left to do; undefined when nothing is */
  settle(job: Received, grant: Grant, { journalError, routeError }: Secured): Promise<void> | undefined {
    this.#effects.noteJournal(journalError);
    if (journalError !== undefined || routeError !== undefined || !this.#engine.commit(grant)) {
      return this.#takeBack(job, grant, { journalError, routeError });
    }
    const { replaces, address, leaseMs } = grant;
    this.#counts.ok++;
    this.#arm();
    this.#effects.touch(address);
    const sent = this.#replies.send(job, { type: "ack", address, leaseMs });
    if (sent !== undefined || replaces !== undefined) return this.#afterReply(sent, job, grant);
    this.#tellGrant(job, grant);
    return undefined;
  }

  async #afterReply(sent: Promise<void> | undefined, job: Received, grant: Grant): Promise<void> {
    await sent;
    this.#tellGrant(job, grant);
    const { replaces } = grant;
    if (replaces === undefined) return;
    this.#effects.touch(parseAddress(replaces.ip));
    this.#effects.tell({ type: "released", lease: replaces });
    await this.#effects.dropRoute(replaces.ip);
  }

  #tellGrant(job: Received, { lease, renews }: Grant): void {
    const type = renews === undefined ? "granted" : "renewed";
    this.#effects.tell({ type, lease, tookMs: this.#clock.now() - job.at });
  }

  async #takeBack(job: Received, grant: Grant, { journalError, routeError }: Secured): Promise<void> {
    const { lease, renews } = grant;
    this.#counts.failed++;
    const undo = this.#engine.abort(grant);
    // Queued in this turn of the event loop: before any later grant of the same address.
    if (journalError === undefined) this.#effects.write(undo);
    this.#arm();
    const reason = routeError !== undefined ? "route" : journalError !== undefined ? "journal" : undefined;
    if (reason !== undefined) this.#effects.tell({ type: "refused", ip: lease.ip, mac: lease.mac, reason });
    if (routeError !== undefined) {
      this.#effects.problem(`the route to ${lease.ip} cannot be set`, routeError);
    } else if (renews === undefined) {
      await this.#effects.dropRoute(lease.ip);
    }
    const answer = this.#answerToFailure(job, grant, reason);
    if (answer !== undefined) await this.#replies.send(job, answer);
  }

  #answerToFailure(job: Received, grant: Grant, reason: "journal" | "route" | undefined): Answer | undefined {
    const { renews, address } = grant;
    if (job.request.type === "discover") return this.#replies.drop(reason ?? "not-available"); // never a NAK (RFC 4039)
    if (reason === "journal" && renews !== undefined) {
      // The lease it renews is durable: acknowledging what is left of that keeps the guest on the network (G2).
      const leaseMs = renews.expiry - this.#clock.now();
      if (leaseMs >= 1000) return { type: "ack", address, leaseMs };
    }
    if (reason === "journal") return this.#replies.drop("journal");
    // A guest that has the address keeps it: it asks again, and its lease is still good.
    if (reason === "route")
      return renews === undefined ? { type: "nak", reason: "not-available" } : this.#replies.drop("route");
    const { granting } = this.#engine.options;
    if (granting === "renew-only") return this.#replies.drop("renew-only");
    return { type: "nak", reason: granting === "refuse" ? "refusing" : "not-in-pool" };
  }
}
