import {
  AuthError,
  ConflictError,
  ExhaustedError,
  InvalidError,
  NotFoundError,
  ThrottledError,
  UnavailableError,
} from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { isAbout, LimitError, operationFailure, refusal, StaleError } from "../src/api-errors.ts";
import { readInstance, readOperation } from "../src/wire.ts";

function errorOf(status: number, body: unknown, retryAfter: string | null = null) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return refusal("instances.get n", { status, body: text, retryAfter });
}

function legacy(reason: string, message = "m") {
  return { error: { code: 0, message, errors: [{ message, domain: "global", reason }] } };
}

function withInfo(reason: string, message = "m") {
  const info = { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason };
  return { error: { code: 0, message, details: [info] } };
}

describe("refusals", () => {
  it.each([
    [400, legacy("invalid"), InvalidError],
    [400, legacy("resourceNotReady"), UnavailableError],
    [400, { error: { message: "The resource 'x' is not ready" } }, UnavailableError],
    [400, legacy("limitExceeded"), ExhaustedError],
    [401, legacy("authError"), AuthError],
    [403, legacy("rateLimitExceeded"), ThrottledError],
    [403, withInfo("RATE_LIMIT_EXCEEDED"), ThrottledError],
    [403, { error: { message: "Quota exceeded for quota metric 'Reads'." } }, ThrottledError],
    [403, legacy("quotaExceeded"), ExhaustedError],
    [403, { error: { message: "Quota 'IN_USE' exceeded. Limit: 8.0 globally." } }, ExhaustedError],
    [403, legacy("forbidden"), AuthError],
    [404, legacy("notFound"), NotFoundError],
    [409, legacy("alreadyExists"), ConflictError],
    [412, legacy("conditionNotMet"), StaleError],
    [429, legacy("rateLimitExceeded"), ThrottledError],
    [429, "<html>slow down</html>", ThrottledError],
    [500, legacy("backendError"), UnavailableError],
    [503, legacy("backendError"), UnavailableError],
    [404, "<html>not here</html>", UnavailableError],
  ])("%i %j", (status, body, type) => {
    expect(errorOf(status, body)).toBeInstanceOf(type);
  });

  it("say what was asked and what came back, in one line", () => {
    expect(errorOf(400, legacy("invalid", "Invalid value\nfor field")).message).toBe(
      "instances.get n was refused: invalid: Invalid value for field",
    );
  });

  it.each([
    [legacy("limitExceeded", "Exceeded limit 'ALIASES' on resource 'n'. Limit: 10.0"), 10],
    [legacy("invalid", "At most 100 alias IP ranges are allowed per network interface."), undefined],
    [legacy("invalid", "Too many alias IP ranges."), undefined],
  ])("for a limit of a resource, in whatever words, are told from a quota: %j", (body, limit) => {
    const error = errorOf(400, body);
    expect(error).toBeInstanceOf(LimitError);
    expect(error).toMatchObject({ limit });
    expect(errorOf(403, legacy("quotaExceeded", "Quota 'X' exceeded."))).not.toBeInstanceOf(LimitError);
  });

  it("of a change, because its resource was changed too often, are no throttle of the account", () => {
    const message = "Operation rate exceeded for the resource. Too frequent operations.";
    expect(errorOf(403, legacy("rateLimitExceeded", message))).toMatchObject({
      code: "unavailable",
      outcome: "none",
    });
  });

  it("tell when to come back", () => {
    expect(errorOf(429, legacy("rateLimitExceeded"), "3")).toMatchObject({ retryAfterMs: 3000 });
  });

  it.each(["", "<html>502</html>", "[]", "null", "{}"])(
    "that are none (%j) leave the outcome open",
    (body) => {
      expect(errorOf(502, body)).toMatchObject({ code: "unavailable", outcome: "unknown" });
    },
  );

  it("of a resource are told from those of its project (G8)", () => {
    const path = "projects/p/zones/z/instances/i";
    const about = (message: string) => isAbout(errorOf(404, legacy("notFound", message)), path);
    expect(about(`The resource '${path}' was not found`)).toBe(true);
    expect(about("The resource 'projects/p' was not found")).toBe(false);
    expect(about(`The resource '${path}-2' was not found`)).toBe(false);
  });
});

describe("operations that failed", () => {
  it.each([
    ["IP_IN_USE_BY_ANOTHER_RESOURCE", ConflictError],
    ["QUOTA_EXCEEDED", ExhaustedError],
    ["IP_SPACE_EXHAUSTED", ExhaustedError],
    ["RESOURCE_NOT_READY", UnavailableError],
    ["INTERNAL_ERROR", UnavailableError],
    ["RESOURCE_NOT_FOUND", NotFoundError],
    ["PERMISSIONS_ERROR", AuthError],
    ["SOMETHING_NEW", InvalidError],
  ])("%s", (code, type) => {
    expect(operationFailure("adding x", [{ code, message: "m" }])).toBeInstanceOf(type);
  });
});

describe("resources", () => {
  const nic = { name: "nic0", fingerprint: "AA==", aliasIpRanges: [{ ipCidrRange: "10.0.0.7" }] };
  const instance = {
    id: "1",
    name: "n",
    zone: "https://x/zones/z",
    status: "RUNNING",
    networkInterfaces: [nic],
  };

  it("show a single address as /32", () => {
    expect(readInstance(instance).nics[0]?.aliases).toEqual([{ cidr: "10.0.0.7/32", rangeName: undefined }]);
  });

  it.each([undefined, null, [], {}, { ...instance, id: "" }, { ...instance, networkInterfaces: "x" }])(
    "that are none (%j) are an error, not an empty one (G8)",
    (value) => {
      expect(() => readInstance(value)).toThrow(UnavailableError);
    },
  );

  it("of a failed operation are DONE, and failed", () => {
    const error = { errors: [{ code: "X", message: "m" }] };
    expect(readOperation({ name: "o", status: "DONE", error, httpErrorStatusCode: 400 })).toMatchObject({
      done: true,
      errors: [{ code: "X", message: "m" }],
      httpErrorStatus: 400,
    });
  });
});
