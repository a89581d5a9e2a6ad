import { type InstanceIdentity, NotFoundError, Pauses, UnavailableError } from "@cocoon-net/core";
import type { RoleCredentials } from "./credentials.ts";
import { readRoleCredentials, readRoleName } from "./role-credentials.ts";
import type { Timing } from "./timing.ts";

/**
 * The instance metadata service: https://www.volcengine.com/docs/6396/113780. Items have underscores; some
 * images only know the EC2-like names with hyphens. Where tokens are required, a GET without one gets a 401.
 */
export class Metadata {
  readonly #endpoint: string;
  readonly #timing: Timing;
  #token: string | undefined;

  constructor(endpoint: string, timing: Timing) {
    this.#endpoint = endpoint;
    this.#timing = timing;
  }

  /** Whether it answers at all, within {@link Timing.metadataMs}. */
  async answers(signal?: AbortSignal): Promise<boolean> {
    try {
      const { status, text } = await this.#request("GET", "/latest/instance_id", {}, signal);
      return status === 401 || (status === 200 && text !== "");
    } catch (error) {
      if (error instanceof UnavailableError) return false;
      throw error;
    }
  }

  /** @throws {UnavailableError} when it does not answer @throws {NotFoundError} when an item is missing */
  async identity(signal?: AbortSignal): Promise<InstanceIdentity> {
    return await this.#patiently(signal, async () => {
      const instanceID = await this.#item("instance_id", "instance-id", signal);
      const zone = await this.#item("availability_zone", "placement/availability-zone", signal);
      const network = await this.#item("vpc_id", "vpc-id", signal);
      return { instanceID, zone, region: await this.#region(signal, zone), network };
    });
  }

  async region(): Promise<string> {
    return await this.#patiently(undefined, () => this.#region(undefined));
  }

  /** The role that the instance has. @throws {NotFoundError} when it has none */
  async roleName(): Promise<string> {
    const list = "security_credentials?type=user&format=json";
    const text = await this.#patiently(undefined, () =>
      this.#item(`iam/${list}`, "iam/security-credentials/", undefined),
    );
    const name = readRoleName(text);
    if (name !== undefined) return name;
    throw new NotFoundError(`the metadata service at ${this.#endpoint} names no role`, {
      hint: "give the instance an IAM role, or set VOLCENGINE_ACCESS_KEY_ID and VOLCENGINE_SECRET_ACCESS_KEY",
    });
  }

  /** @throws {NotFoundError} when the instance does not have the role */
  async roleCredentials(role: string): Promise<RoleCredentials> {
    const name = encodeURIComponent(role);
    const text = await this.#patiently(undefined, () =>
      this.#item(`iam/security_credentials/${name}`, `iam/security-credentials/${name}`, undefined),
    );
    return readRoleCredentials(text);
  }

  async #patiently<T>(signal: AbortSignal | undefined, read: () => Promise<T>): Promise<T> {
    const { firstPauseMs: firstMs, maxPauseMs: maxMs, metadataMs } = this.#timing;
    const pauses = new Pauses({ firstMs, maxMs, totalMs: 4 * metadataMs, signal });
    for (;;) {
      try {
        return await read();
      } catch (error) {
        if (!(error instanceof UnavailableError) || !(await pauses.next())) throw error;
      }
    }
  }

  async #region(signal: AbortSignal | undefined, zone?: string): Promise<string> {
    try {
      return await this.#item("region_id", "region-id", signal);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      // The hyphenated tree may lack it; a zone is its region and a letter.
      const place = zone ?? (await this.#item("availability_zone", "placement/availability-zone", signal));
      return place.replace(/-[a-z0-9]+$/, "");
    }
  }

  async #item(name: string, alias: string, signal: AbortSignal | undefined): Promise<string> {
    for (const path of [`/latest/${name}`, `/latest/meta-data/${alias}`]) {
      const { status, text } = await this.#get(path, signal);
      if (status === 200 && text !== "") return text;
      if (status === 404 || status === 200) continue;
      const message = `the metadata service at ${this.#endpoint} answered ${path} with HTTP ${status}`;
      const hint = "run this on a Volcengine instance, or name another platform";
      if (status < 500) throw new NotFoundError(message, { hint });
      throw new UnavailableError(message, { outcome: "none", hint });
    }
    throw new NotFoundError(`the metadata service at ${this.#endpoint} has no ${name}`, {
      hint: "run this on a Volcengine instance, or name another platform",
    });
  }

  async #get(path: string, signal: AbortSignal | undefined): Promise<{ status: number; text: string }> {
    const answer = await this.#request("GET", path, this.#tokenHeader(), signal);
    if (answer.status !== 401) return answer;
    // No token yet, or it has expired.
    const ttl = { "x-volc-ecs-metadata-token-ttl-seconds": "21600" };
    const issued = await this.#request("PUT", "/latest/api/token", ttl, signal);
    if (issued.status !== 200) return answer;
    this.#token = issued.text;
    return await this.#request("GET", path, this.#tokenHeader(), signal);
  }

  #tokenHeader(): Record<string, string> {
    return this.#token === undefined ? {} : { "x-volc-ecs-metadata-token": this.#token };
  }

  async #request(
    method: "GET" | "PUT",
    path: string,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
  ): Promise<{ status: number; text: string }> {
    const timeout = AbortSignal.timeout(this.#timing.metadataMs);
    const both = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    try {
      const response = await fetch(this.#endpoint + path, {
        method,
        headers,
        signal: both,
        redirect: "error",
      });
      return { status: response.status, text: (await response.text()).trim() };
    } catch (cause) {
      signal?.throwIfAborted();
      throw new UnavailableError(`the metadata service at ${this.#endpoint} does not answer`, {
        cause,
        outcome: "none",
        hint: "run this on a Volcengine instance, or set COCOON_NET_METADATA_ENDPOINT",
      });
    }
  }
}
