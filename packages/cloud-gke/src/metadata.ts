import type { IncomingMessage } from "node:http";
import { text as textOf } from "node:stream/consumers";
import { type InstanceIdentity, NotFoundError, Pauses, UnavailableError } from "@cocoon-net/core";
import { formatInstanceRef, regionOf } from "./instance-ref.ts";
import { retryPauses, type Timing } from "./timing.ts";
import { lastSegment } from "./wire.ts";

const base = "/computeMetadata/v1";

export interface AccessToken {
  readonly token: string;
  readonly expiresInMs: number;
}

export interface ShownItem {
  /** As the server shows it, which may be later than the API does. */
  readonly text: string;
  readonly etag: string;
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly etag: string;
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
      const text = async (path: string): Promise<string> => (await this.#item(path, signal)).text;
      const id = await text("instance/id");
      const name = await text("instance/name");
      const zone = lastSegment(await text("instance/zone"));
      const project = await text("project/project-id");
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
      const { text } = await this.#item(path, signal);
      const token = /"access_token"\s*:\s*"([^"]+)"/.exec(text)?.[1];
      const seconds = Number(/"expires_in"\s*:\s*(\d+)/.exec(text)?.[1]);
      if (token === undefined || Number.isNaN(seconds)) {
        throw new NotFoundError(`the metadata server's ${path} is no token`, {
          hint: "give the instance a service account",
        });
      }
      return { token, expiresInMs: seconds * 1000 };
    });
  }

  /**
   * An item, once it is another than at `lastEtag`, or after {@link Timing.watchMs}.
   *
   * @throws as {@link identity}
   */
  async changed(path: string, lastEtag: string | undefined, signal?: AbortSignal): Promise<ShownItem> {
    const { watchMs, metadataMs } = this.#timing;
    if (lastEtag === undefined) return await this.#item(path, signal, metadataMs);
    const seconds = Math.ceil(watchMs / 1000);
    const wait = `wait_for_change=true&last_etag=${encodeURIComponent(lastEtag)}&timeout_sec=${seconds}`;
    return await this.#item(path + (path.includes("?") ? "&" : "?") + wait, signal, watchMs + 10_000);
  }

  /** It may be restarting: asked a few times. */
  async #patiently<T>(signal: AbortSignal | undefined, run: () => Promise<T>): Promise<T> {
    const pauses = new Pauses(retryPauses(this.#timing, 4 * this.#timing.metadataMs, signal));
    for (;;) {
      try {
        return await run();
      } catch (error) {
        if (!(error instanceof UnavailableError) || !(await pauses.next())) throw error;
      }
    }
  }

  async #item(path: string, signal: AbortSignal | undefined, timeoutMs?: number): Promise<Answer> {
    const answer = await this.#get(path, signal, timeoutMs);
    const { status, text } = answer;
    if (status === 200 && text !== "") return answer;
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

  async #get(
    path: string,
    signal: AbortSignal | undefined,
    timeoutMs: number = this.#timing.metadataMs,
  ): Promise<Answer> {
    const timeout = AbortSignal.timeout(timeoutMs);
    const both = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    let genuine: boolean;
    let answer: Answer;
    try {
      const response = await ask(`${this.#endpoint}${base}/${path}`, both);
      const { headers, statusCode: status = 0 } = response;
      genuine = headers["metadata-flavor"] === "Google";
      answer = { status, text: (await textOf(response)).trim(), etag: headers.etag ?? "" };
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

/**
 * Not by `fetch`, which takes 16 MB of a daemon that only watches, nor by what is imported from node:http: an import reads
 * every name that the module has, and some of those load what `fetch` needs.
 */
function ask(url: string, signal: AbortSignal): Promise<IncomingMessage> {
  const { get } = process.getBuiltinModule(url.startsWith("https:") ? "node:https" : "node:http");
  return new Promise((resolve, reject) => {
    get(url, { headers: { "metadata-flavor": "Google" }, agent: false, signal }, resolve).on("error", reject);
  });
}
