import { createRequire } from "node:module";
import { CocoonError, ThrottledError, UnavailableError } from "@cocoon-net/core";
import { type RawAnswer, readAnswer } from "./api-errors.ts";
import type { Credentials } from "./settings.ts";
import { Pauses, type Timing } from "./timing.ts";
import { type Json, readPage } from "./wire.ts";

/**
 * `safe` to send again after a lost answer: reads, and what takes a ClientToken. After a failure of the others
 * the caller looks before it asks again.
 */
const actions = {
  AssignPrivateIpAddresses: { service: "vpc", safe: true },
  AttachNetworkInterface: { service: "vpc", safe: false },
  CreateNetworkInterface: { service: "vpc", safe: true },
  CreateSubnet: { service: "vpc", safe: true },
  DeleteNetworkInterface: { service: "vpc", safe: false },
  DescribeInstances: { service: "ecs", safe: true },
  DescribeInstanceTypes: { service: "ecs", safe: true },
  DescribeNetworkInterfaces: { service: "vpc", safe: true },
  DescribeSecurityGroups: { service: "vpc", safe: true },
  DescribeSubnets: { service: "vpc", safe: true },
  DetachNetworkInterface: { service: "vpc", safe: false },
  TagResources: { service: "vpc", safe: true },
} as const;

const version = "2020-04-01";

export type Action = keyof typeof actions;
export type ListAction = Extract<Action, `Describe${string}`>;

export type ParameterValue =
  | string
  | number
  | boolean
  | undefined
  | readonly ParameterValue[]
  | { readonly [name: string]: ParameterValue };
export type Parameters = Readonly<Record<string, ParameterValue>>;

export interface VolcengineApiOptions {
  readonly endpoint: string;
  readonly credentials: () => Promise<Credentials>;
  readonly timing: Timing;
}

/** Signed calls to vpc and ecs. Every refusal becomes one of core's errors. */
export class VolcengineApi {
  readonly timing: Timing;
  readonly #endpoint: string;
  readonly #loadCredentials: () => Promise<Credentials>;
  #credentials: Promise<Credentials> | undefined;

  constructor(options: VolcengineApiOptions) {
    this.timing = options.timing;
    this.#endpoint = options.endpoint;
    this.#loadCredentials = options.credentials;
  }

  async region(): Promise<string> {
    return (await this.#resolvedCredentials()).region;
  }

  /**
   * Calls an action and gives its `Result`. Tries again, for {@link Timing.retryMs} altogether, on throttling,
   * and after an outage where that cannot do something twice.
   */
  async call(action: Action, parameters: Parameters, signal?: AbortSignal): Promise<unknown> {
    const pauses = new Pauses(this.timing, this.timing.retryMs, signal);
    for (;;) {
      signal?.throwIfAborted();
      try {
        return await this.#once(action, parameters, signal);
      } catch (error) {
        const again =
          error instanceof ThrottledError || (error instanceof UnavailableError && actions[action].safe);
        if (!again) throw error;
        const wait = error instanceof ThrottledError ? error.retryAfterMs : undefined;
        if (!(await pauses.next(wait))) throw error;
      }
    }
  }

  /** All items of a list, over all pages. Complete or an error, never a part (G8). */
  async list<T>(
    action: ListAction,
    parameters: Parameters,
    key: string,
    read: (record: Json) => T,
    signal?: AbortSignal,
  ): Promise<T[]> {
    const items: T[] = [];
    const tokens = new Set<string>();
    for (let token = ""; ; ) {
      const page = { MaxResults: 100, NextToken: token || undefined };
      const result = readPage(await this.call(action, { ...parameters, ...page }, signal), key);
      items.push(...result.items.map(read));
      token = result.nextToken;
      if (token === "") return items;
      if (tokens.has(token)) {
        throw new UnavailableError(`${action} repeats its pages without an end`, { outcome: "none" });
      }
      tokens.add(token);
    }
  }

  #resolvedCredentials(): Promise<Credentials> {
    // A failure is not kept: the file may be there the next time.
    this.#credentials ??= this.#loadCredentials().catch((error: unknown) => {
      this.#credentials = undefined;
      throw error;
    });
    return this.#credentials;
  }

  async #once(action: Action, parameters: Parameters, signal: AbortSignal | undefined): Promise<unknown> {
    const credentials = await this.#resolvedCredentials();
    const { query, headers } = sign(action, parameters, credentials);
    const subject = subjectOf(parameters);
    const what = subject === undefined ? action : `${action} ${subject}`;
    const timeout = AbortSignal.timeout(this.timing.requestMs);
    const both = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    let answer: RawAnswer;
    try {
      const url = `${this.#endpoint}/?${query}`;
      // A redirect would carry a signature that is no longer right.
      const response = await fetch(url, { headers, signal: both, redirect: "error" });
      const body = await response.text();
      answer = { status: response.status, body, retryAfter: response.headers.get("retry-after") };
    } catch (cause) {
      signal?.throwIfAborted();
      throw unreachable(what, this.#endpoint, timeout.aborted ? this.timing.requestMs : undefined, cause);
    }
    const read = readAnswer(what, answer);
    if ("result" in read) return read.result;
    throw read.error;
  }
}

type SignerModule = typeof import("@volcengine/openapi/lib/base/sign.js", { with: {
  "resolution-mode": "require",
}});

/**
 * Only the vendor's Signer is loaded, and only for the first call: the package's index brings in every service
 * that it has (20 MB). It is CommonJS, and a `require` gives the same in every loader.
 */
function loadSigner(): SignerModule {
  return createRequire(import.meta.url)("@volcengine/openapi/lib/base/sign.js");
}

/** Sending is ours, because the vendor's client hides status and headers and cannot be aborted. */
function sign(
  action: Action,
  parameters: Parameters,
  credentials: Credentials,
): { query: string; headers: Record<string, string> } {
  const signing = loadSigner();
  const headers: Record<string, string> = {};
  const request = {
    region: credentials.region,
    method: "GET",
    pathname: "/",
    params: { ...flatten(parameters), Action: action, Version: version },
    headers,
  };
  const signer = new signing.default(request, actions[action].service);
  signer.addAuthorization({
    accessKeyId: credentials.accessKeyID,
    secretKey: credentials.secretAccessKey,
    ...(credentials.sessionToken === undefined ? {} : { sessionToken: credentials.sessionToken }),
  });
  // The signer has sorted `params`; the same string must go out as was signed.
  return { query: signing.queryParamsToString(request.params), headers };
}

/** `{ Tags: [{ Key: "a" }] }` → `Tags.1.Key=a`: what the API understands of lists, numbered from 1. */
export function flatten(parameters: Parameters): Record<string, string> {
  const flat: Record<string, string> = {};
  const visit = (name: string, value: ParameterValue): void => {
    if (value === undefined) return;
    if (isList(value)) {
      value.forEach((item, index) => {
        visit(`${name}.${index + 1}`, item);
      });
    } else if (typeof value === "object") {
      for (const [key, item] of Object.entries(value)) visit(`${name}.${key}`, item);
    } else {
      flat[name] = String(value);
    }
  };
  for (const [name, value] of Object.entries(parameters)) visit(name, value);
  return flat;
}

function isList(value: ParameterValue): value is readonly ParameterValue[] {
  return Array.isArray(value);
}

/** What a call is about, for messages. */
function subjectOf(parameters: Parameters): string | undefined {
  const names = [
    "NetworkInterfaceId",
    "CidrBlock",
    "SubnetId",
    "InstanceId",
    "NetworkInterfaceIds",
    "InstanceIds",
  ];
  for (const name of names) {
    const value = parameters[name];
    const first = value !== undefined && isList(value) ? value[0] : value;
    if (typeof first === "string") return first;
  }
  return undefined;
}

/** Errors of node:net and undici that come before a request is sent. */
const neverSent = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

function unreachable(
  what: string,
  endpoint: string,
  timeoutMs: number | undefined,
  error: unknown,
): CocoonError {
  if (error instanceof CocoonError) return error;
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : undefined;
  const why = timeoutMs === undefined ? (code ?? String(cause)) : `no answer within ${timeoutMs} ms`;
  return new UnavailableError(`${what} failed: ${endpoint}: ${why}`, {
    cause: error,
    outcome: code !== undefined && neverSent.has(code) ? "none" : "unknown",
    hint: "check the network and COCOON_NET_VOLCENGINE_ENDPOINT",
  });
}
