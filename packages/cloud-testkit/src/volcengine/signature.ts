import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { HttpRequest } from "../http-listener.ts";
import { ApiFault, gatewayFault } from "./api-fault.ts";

export interface AccessKey {
  readonly accessKeyID: string;
  readonly secretAccessKey: string;
  /** Set for temporary credentials; requests must then carry it as `X-Security-Token`. */
  readonly sessionToken?: string;
}

export interface SignatureScope {
  readonly accessKeyID: string;
  readonly date: string;
  readonly region: string;
  readonly service: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
}

/** Reads the Authorization header (facts §1.3). */
export function readScope(headers: HttpRequest["headers"]): SignatureScope {
  const header = headers.authorization;
  if (typeof header !== "string") {
    throw gatewayFault("MissingAuthenticationToken", "The request has no Authorization header.");
  }
  const match =
    /^HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/request, *SignedHeaders=([^,]*), *Signature=([0-9a-f]{64})$/.exec(
      header,
    );
  const [, accessKeyID, date, region, service, names, signature] = match ?? [];
  if (!accessKeyID || !date || !region || !service || names === undefined || !signature) {
    throw new ApiFault(400, "InvalidAuthorization", "The Authorization header is malformed.");
  }
  return { accessKeyID, date, region, service, signedHeaders: names.split(";"), signature };
}

/**
 * Checks time, key and signature, from the list of signed headers and the raw query that were sent, not from a
 * fixed list (facts §1.3).
 *
 * @param find the key of an id; throws what is wrong with it
 */
export function verifySignature(
  request: HttpRequest,
  scope: SignatureScope,
  find: (accessKeyID: string) => AccessKey,
  time: { readonly nowMs: number; readonly skewMs: number },
): void {
  const stamp = request.headers["x-date"];
  const parts = typeof stamp === "string" ? /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(stamp) : null;
  if (typeof stamp !== "string" || parts === null) {
    throw gatewayFault("InvalidTimestamp", "X-Date is missing or not of the form YYYYMMDDTHHMMSSZ.");
  }
  const [, year, month, day, hour, minute, second] = parts;
  const sentMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(sentMs) || Math.abs(time.nowMs - sentMs) > time.skewMs) {
    throw gatewayFault("InvalidTimestamp", `X-Date ${stamp} is too far from the server's time.`);
  }
  const key = find(scope.accessKeyID);
  if (key.sessionToken !== undefined && request.headers["x-security-token"] !== key.sessionToken) {
    throw new ApiFault(401, "InvalidSecretToken", "The session token is missing or wrong.");
  }
  const expected = Buffer.from(sign(request, scope, stamp, key.secretAccessKey));
  if (scope.date !== stamp.slice(0, 8) || !timingSafeEqual(expected, Buffer.from(scope.signature))) {
    throw gatewayFault("SignatureDoesNotMatch", "The signature does not match the request.");
  }
}

/** Facts §1.3. */
function sign(request: HttpRequest, scope: SignatureScope, stamp: string, secret: string): string {
  const headers = scope.signedHeaders.map((name) => `${name}:${headerValue(request.headers[name])}\n`);
  const canonical = [
    request.method,
    request.path,
    canonicalQuery(request.rawQuery),
    headers.join(""),
    scope.signedHeaders.join(";"),
    createHash("sha256").update(request.body).digest("hex"),
  ].join("\n");
  const toSign = [
    "HMAC-SHA256",
    stamp,
    `${scope.date}/${scope.region}/${scope.service}/request`,
    createHash("sha256").update(canonical).digest("hex"),
  ].join("\n");
  const key = [scope.date, scope.region, scope.service, "request"].reduce<string | Buffer>(
    (previous, part) => createHmac("sha256", previous).update(part).digest(),
    secret,
  );
  return createHmac("sha256", key).update(toSign).digest("hex");
}

function headerValue(value: string | string[] | undefined): string {
  const text = Array.isArray(value) ? value.join(",") : (value ?? "");
  return text.replaceAll(/\s+/g, " ").trim();
}

/** Sorted by key, then value, each escaped as RFC 3986 wants it. */
function canonicalQuery(rawQuery: string): string {
  return decodeQuery(rawQuery)
    .map(([key, value]) => [escape3986(key), escape3986(value)] as const)
    .sort(([a, x], [b, y]) => (a === b ? compare(x, y) : compare(a, b)))
    .map(([key, value]) => `${key}=${value}`)
    .join("&");
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export function decodeQuery(rawQuery: string): (readonly [key: string, value: string])[] {
  if (rawQuery === "") return [];
  try {
    return rawQuery.split("&").map((pair) => {
      const equals = pair.indexOf("=");
      const key = equals < 0 ? pair : pair.slice(0, equals);
      return [decodeURIComponent(key), decodeURIComponent(equals < 0 ? "" : pair.slice(equals + 1))];
    });
  } catch {
    throw gatewayFault("MissingRequestInfo", "The query string is malformed.");
  }
}

function escape3986(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
