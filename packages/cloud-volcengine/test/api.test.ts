import {
  AuthError,
  ConflictError,
  ExhaustedError,
  InvalidError,
  NotFoundError,
  ThrottledError,
  UnavailableError,
} from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readAnswer } from "../src/api-errors.ts";
import { flatten } from "../src/signing.ts";
import { readPage } from "../src/wire.ts";

const question = { what: "DescribeX eni-1", permission: "vpc:DescribeX" };

function errorOf(status: number, body: unknown, retryAfter: string | null = null): unknown {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const read = readAnswer(question, { status, body: text, retryAfter });
  return "error" in read ? read.error : undefined;
}

function refusal(code: string, codeN?: number): unknown {
  return {
    ResponseMetadata: {
      RequestId: "r",
      Error: { Code: code, ...(codeN ? { CodeN: codeN } : {}), Message: "m" },
    },
  };
}

describe("answers", () => {
  it.each([
    ["InvalidEni.InvalidStatus", 400, UnavailableError],
    ["InvalidVpc.InvalidStatus", 400, UnavailableError],
    ["InternalError", 500, UnavailableError],
    ["ServiceUnavailableTemp", 503, UnavailableError],
    ["FlowLimitExceeded", 429, ThrottledError],
    // Seen with 200 and 400 too.
    ["AccountFlowLimitExceeded", 200, ThrottledError],
    ["InvalidEniId.NotFound", 404, NotFoundError],
    ["InvalidEni.InstanceMismatch", 400, NotFoundError],
    ["InsufficientIpInSubnet", 400, ExhaustedError],
    ["LimitExceeded.EnisPerInstance", 400, ExhaustedError],
    ["QuotaExceeded.Eni", 400, ExhaustedError],
    ["InvalidEip.InUse", 400, ConflictError],
    ["InvalidEip.InvalidStatus", 400, ConflictError],
    ["IdempotentParameterMismatch", 400, ConflictError],
    ["Forbidden", 403, InvalidError],
    ["InvalidParameter", 400, InvalidError],
    ["ServiceNotFound", 404, InvalidError],
    ["InvalidActionOrVersion", 404, InvalidError],
    ["InvalidTimestamp", 400, AuthError],
    ["SignatureDoesNotMatch", 401, AuthError],
    ["AccessDenied", 403, AuthError],
    ["InvalidSecretToken", 401, AuthError],
    ["SomethingNew", 401, AuthError],
    ["SomethingNew", 400, InvalidError],
    ["SomethingNew", 500, UnavailableError],
  ])("%s with HTTP %i", (code, status, type) => {
    const error = errorOf(status, refusal(code));
    expect(error).toBeInstanceOf(type);
    expect(String(error)).toContain(`DescribeX eni-1 was refused: ${code}: m`);
  });

  it("are known by the gateway's number where the code is not", () => {
    expect(errorOf(400, refusal("Odd", 100018))).toBeInstanceOf(ThrottledError);
    expect(errorOf(400, { HTTPCode: 401, errorcode: 100010, message: "m" })).toBeInstanceOf(AuthError);
  });

  it("tell when to come back", () => {
    expect(errorOf(429, refusal("FlowLimitExceeded"), "3")).toMatchObject({ retryAfterMs: 3000 });
  });

  it.each(["", "<html>502</html>", "[]", "null", "{}"])(
    "that are none (%j) leave the outcome open",
    (body) => {
      expect(errorOf(200, body)).toMatchObject({ code: "unavailable", outcome: "unknown" });
    },
  );

  it("carry the result", () => {
    const body = JSON.stringify({ ResponseMetadata: { RequestId: "r" }, Result: { A: 1 } });
    expect(readAnswer(question, { status: 200, body, retryAfter: null })).toEqual({ result: { A: 1 } });
  });
});

describe("pages", () => {
  it("a list that is not there is empty only where zero was counted (G8)", () => {
    expect(readPage({ TotalCount: 0, Instances: null }, "Instances").items).toEqual([]);
    for (const odd of [{}, { Instances: null }, { Instances: "" }, { Instances: [1] }, null, undefined]) {
      expect(() => readPage(odd, "Instances")).toThrow(UnavailableError);
    }
  });
});

describe("parameters", () => {
  it("lists are numbered from 1, undefined is left out", () => {
    const flat = flatten({ A: ["x", "y"], Tags: [{ Key: "k", Value: "v" }], B: undefined, C: 3, D: true });
    expect(flat).toEqual({
      "A.1": "x",
      "A.2": "y",
      "Tags.1.Key": "k",
      "Tags.1.Value": "v",
      C: "3",
      D: "true",
    });
  });

  it("no value gets lost", () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.stringMatching(/^[A-Z]{1,8}$/), fc.array(fc.string(), { maxLength: 12 })),
        (lists) => {
          const flat = flatten(lists);
          for (const [name, values] of Object.entries(lists)) {
            expect(values.map((_, index) => flat[`${name}.${index + 1}`])).toEqual(values);
          }
          expect(Object.keys(flat)).toHaveLength(Object.values(lists).flat().length);
        },
      ),
    );
  });
});
