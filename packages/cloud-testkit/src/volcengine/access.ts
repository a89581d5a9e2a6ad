import { randomBytes } from "node:crypto";
import type { SimulatorClock } from "../clock.ts";
import { ApiFault, gatewayFault } from "./api-fault.ts";
import type { AccessKey } from "./signature.ts";

/** Credentials that the metadata service has issued for an instance's role (facts §4.3). */
export interface RoleCredentials extends Required<AccessKey> {
  /** Milliseconds since the epoch. */
  readonly issuedAt: number;
  readonly until: number;
}

export interface InstanceRole {
  readonly name: string;
  /** Default 6 hours (facts §4.3). */
  readonly lifetimeMs?: number;
}

const defaultLifetimeMs = 6 * 3_600_000;

/** Who may call: the account's own keys, and those issued to its instances. */
export class VolcengineAccess {
  readonly #clock: SimulatorClock;
  readonly #fixed: readonly AccessKey[];
  readonly #denied: ReadonlySet<string>;
  readonly role: InstanceRole | undefined;
  #issued: RoleCredentials[] = [];

  constructor(
    clock: SimulatorClock,
    options: {
      readonly keys: readonly AccessKey[];
      readonly denied: readonly string[];
      readonly role: InstanceRole | undefined;
    },
  ) {
    this.#clock = clock;
    this.#fixed = options.keys;
    this.#denied = new Set(options.denied);
    this.role = options.role;
  }

  /** The key of that id. @throws InvalidAccessKey; InvalidSecretToken when it has expired (facts §2.13) */
  find(accessKeyID: string): AccessKey {
    const fixed = this.#fixed.find((key) => key.accessKeyID === accessKeyID);
    if (fixed !== undefined) return fixed;
    const issued = this.#issued.find((key) => key.accessKeyID === accessKeyID);
    if (issued === undefined) throw gatewayFault("InvalidAccessKey", `Unknown access key ${accessKeyID}.`);
    if (issued.until > this.#clock.now()) return issued;
    throw new ApiFault(401, "InvalidSecretToken", "The session token has expired.");
  }

  /** The same ones until half of their time is over. */
  issue(): RoleCredentials {
    const now = this.#clock.now();
    const lifetimeMs = this.role?.lifetimeMs ?? defaultLifetimeMs;
    const latest = this.#issued.at(-1);
    if (latest !== undefined && latest.until - now > lifetimeMs / 2) return latest;
    const issued = {
      accessKeyID: `AKTP${randomBytes(12).toString("hex")}`,
      secretAccessKey: randomBytes(24).toString("base64url"),
      sessionToken: randomBytes(48).toString("base64url"),
      issuedAt: now,
      until: now + lifetimeMs,
    };
    this.#issued.push(issued);
    return issued;
  }

  /** Ends what was issued before its time. */
  revoke(): void {
    this.#issued = this.#issued.map((key) => ({ ...key, until: this.#clock.now() }));
  }

  /** @throws AccessDenied, with the action's name (facts §2.13) */
  requirePermission(service: string, action: string): void {
    if (!this.#denied.has(action)) return;
    throw gatewayFault(
      "AccessDenied",
      `User is not authorized to perform: ${service}:${action} on resource: *`,
    );
  }
}
