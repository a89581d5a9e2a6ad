import { createRequire } from "node:module";
import type { Credentials } from "./credentials.ts";

export type ParameterValue =
  | string
  | number
  | boolean
  | undefined
  | readonly ParameterValue[]
  | { readonly [name: string]: ParameterValue };
export type Parameters = Readonly<Record<string, ParameterValue>>;

export interface SignedRequest {
  readonly query: string;
  readonly headers: Record<string, string>;
}

const version = "2020-04-01";

type SignerModule = typeof import("@volcengine/openapi/lib/base/sign.js", { with: {
  "resolution-mode": "require",
}});

/**
 * Only the vendor's Signer is loaded, and only for the first call: the package's index brings in every service
 * that it has (20 MB). It is CommonJS, and a `require` gives the same in every loader.
 */
export function loadSigner(): SignerModule {
  return createRequire(import.meta.url)("@volcengine/openapi/lib/base/sign.js");
}

/** Sending is ours, because the vendor's client hides status and headers and cannot be aborted. */
export function sign(
  service: string,
  action: string,
  parameters: Parameters,
  credentials: Credentials,
): SignedRequest {
  const signing = loadSigner();
  const headers: Record<string, string> = {};
  const request = {
    region: credentials.region,
    method: "GET",
    pathname: "/",
    params: { ...flatten(parameters), Action: action, Version: version },
    headers,
  };
  const signer = new signing.default(request, service);
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
export function subjectOf(parameters: Parameters): string | undefined {
  const names = [
    "NetworkInterfaceId",
    "CidrBlock",
    "SubnetId",
    "InstanceId",
    "NetworkInterfaceIds",
    "InstanceIds",
    "ResourceIds",
  ];
  for (const name of names) {
    const value = parameters[name];
    const first = value !== undefined && isList(value) ? value[0] : value;
    if (typeof first === "string") return first;
  }
  return undefined;
}
