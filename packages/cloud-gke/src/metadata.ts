import { type InstanceIdentity, NotFoundError, UnavailableError } from "@cocoon-net/core";
import { formatInstanceRef, regionOf } from "./instance-ref.ts";
import { Pauses, type Timing } from "./timing.ts";

const base = "/computeMetadata/v1";

export interface AccessToken {
  readonly token: string;
  readonly expiresInMs: number;
}

/** The metadata server: https://cloud.google.com/compute/docs/metadata/overview. */
export class Metadata {
  readonly #endpoint: string;
  readonly #timing: Timing;

  constructor(endpoint: string, timing: Timing) {
    this.#endpoint = endpoint;
    this.#timing = timing;
  }

  /** Whether it answers at all, within {@link Timing.metadataMs}. */
  async answers(signal?: AbortSignal): Promise<boolean> {
    try {
      return (await this.#get("instance/id", signal)).status === 200;
    } catch (error) {
      if (error instanceof UnavailableError) return false;
      throw error;
    }
  }

  /** @throws {UnavailableError} when it does not answer @throws {NotFoundError} when an item is missing */
  async identity(signal?: AbortSignal): Promise<InstanceIdentity> {
    return await this.#patiently(signal, async () => {
      // `instance/?recursive=true` would also bring the attributes, which hold secrets on a GKE node.
      const id = await this.#item("instance/id", signal);
      const name = await this.#item("instance/name", signal);
      const zone = lastSegment(await this.#item("instance/zone", signal));
      const project = await this.#item("project/project-id", signal);
      return {
        instanceID: formatInstanceRef({ project, zone, name, id }),
        zone,
        region: regionOf(zone),
        network: project,
      };
    });
  }

  /** A token of the instance's service account. @throws as {@link identity} */
  async accessToken(signal?: AbortSignal): Promise<AccessToken> {
    return await this.#patiently(signal, async () => {
      const path = "instance/service-accounts/default/token";
      const text = await this.#item(path, signal);
      const token = /"access_token"\s*:\s*"([^"]+)"/.exec(text)?.[1];
      const seconds = Number(/"expires_in"\s*:\s*(\d+)/.exec(text)?.[1]);
      if (token === undefined || Number.isNaN(seconds)) {
        throw new NotFoundError(`the metadata server's ${path} is no token`);
      }
      return { token, expiresInMs: seconds * 1000 };
    });
  }

  /** It may be restarting: asked a few times. */
  async #patiently<T>(signal: AbortSignal | undefined, run: () => Promise<T>): Promise<T> {
    const pauses = new Pauses(this.#timing, 4 * this.#timing.metadataMs, signal);
    for (;;) {
      try {
        return await run();
      } catch (error) {
        if (!(error instanceof UnavailableError) || !(await pauses.next())) throw error;
      }
    }
  }

  async #item(path: string, signal: AbortSignal | undefined): Promise<string> {
    const { status, text } = await this.#get(path, signal);
    if (status === 200 && text !== "") return text;
    if (status === 404 || status === 200) {
      throw new NotFoundError(`the metadata server at ${this.#endpoint} has no ${path}`, {
        hint: path.endsWith("token")
          ? "give the instance a service account, or set GOOGLE_APPLICATION_CREDENTIALS"
          : "run this on a Compute Engine instance, or name another platform",
      });
    }
    throw new UnavailableError(`the metadata server answered ${path} with HTTP ${status}`, {
      outcome: "none",
    });
  }

  async #get(path: string, signal: AbortSignal | undefined): Promise<{ status: number; text: string }> {
    const timeout = AbortSignal.timeout(this.#timing.metadataMs);
    const both = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    let genuine: boolean;
    let answer: { status: number; text: string };
    try {
      const response = await fetch(`${this.#endpoint}${base}/${path}`, {
        headers: { "metadata-flavor": "Google" },
        signal: both,
        redirect: "error",
      });
      genuine = response.headers.get("metadata-flavor") === "Google";
      answer = { status: response.status, text: (await response.text()).trim() };
    } catch (cause) {
      signal?.throwIfAborted();
      throw this.#silent("does not answer", cause);
    }
    // A captive portal or another cloud's service may answer at the same address.
    if (!genuine) throw this.#silent("is not Google's: its answer carries no Metadata-Flavor header");
    return answer;
  }

  #silent(what: string, cause?: unknown): UnavailableError {
    return new UnavailableError(`the metadata server at ${this.#endpoint} ${what}`, {
      ...(cause === undefined ? {} : { cause }),
      outcome: "none",
      hint: "run this on a Compute Engine instance, or set COCOON_NET_METADATA_ENDPOINT",
    });
  }
}

function lastSegment(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
