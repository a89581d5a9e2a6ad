import { expect, test, vi } from "vitest";
import { CocoonError, ConflictError, describeError, InvalidError, UnavailableError } from "../src/errors.ts";

test("an error of another copy of the package is of the same class", async () => {
  vi.resetModules();
  const other = await import("../src/errors.ts");
  expect(other.UnavailableError).not.toBe(UnavailableError);
  const error: unknown = new other.UnavailableError("no answer.", { outcome: "none", hint: "look at it" });
  expect(error).toBeInstanceOf(UnavailableError);
  expect(error).toBeInstanceOf(CocoonError);
  expect(error).not.toBeInstanceOf(InvalidError);
  expect(describeError(error)).toBe("no answer; look at it");
});

test("a class that is derived has only its own errors", () => {
  class Taken extends ConflictError {}
  const conflict: unknown = new ConflictError("taken");
  expect(conflict).not.toBeInstanceOf(Taken);
  expect(new Taken("taken")).toBeInstanceOf(Taken);
  expect(new Taken("taken")).toBeInstanceOf(ConflictError);
});

test.each([
  new Error("other"),
  Object.assign(new Error("like one"), { code: "conflict" }),
  undefined,
  "conflict",
])("%s is none of them", (value) => {
  expect(value instanceof CocoonError).toBe(false);
  expect(value instanceof ConflictError).toBe(false);
});
