import { type RecordSchema, recordSchema as z } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";

function read<T>(schema: RecordSchema<T>, value: unknown): T | string {
  const reading = schema.safeParse(value);
  if (reading.success) return reading.data;
  return reading.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ");
}

describe("a record's schema", () => {
  it("fills in what has a default, leaves out what is absent, and keeps or drops what it does not know", () => {
    const fields = { name: z.string(), count: z.int().default(3), note: z.exactOptional(z.string()) };
    expect(read(z.looseObject(fields), { more: 1, name: "n" })).toEqual({ name: "n", count: 3, more: 1 });
    expect(read(z.object(fields), { more: 1, name: "n", note: "x" })).toEqual({
      name: "n",
      count: 3,
      note: "x",
    });
    expect(
      read(z.looseObject(fields), JSON.parse('{"__proto__": {"polluted": 1}, "name": "n"}')),
    ).toMatchObject({
      name: "n",
    });
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it.each<[string, RecordSchema<unknown>, unknown, string]>([
    ["a missing field", z.object({ a: z.string() }), {}, "a: is missing"],
    ["a null", z.object({ a: z.exactOptional(z.string()) }), { a: null }, "a: is null, not a string"],
    [
      "a nested one",
      z.object({ a: z.array(z.object({ b: z.int() })) }),
      { a: [{ b: 1 }, { b: 1.5 }] },
      "a.1.b: is 1.5, not a whole number",
    ],
    ["a list", z.object({}), [], ": is [], not an object"],
    ["no list", z.array(z.int()), "1", ': is "1", not a list'],
    ["a number out of range", z.int().min(1).max(30), 31, ": is 31; it must be at most 30"],
    ["a negative one", z.int().nonnegative(), -1, ": is -1; it must be at least 0"],
    ["a number beyond what is exact", z.int(), 2 ** 53, ": is 9007199254740992, not a whole number"],
    ["another word", z.oneOf(["up", "down"]), "left", ': is "left", not one of "up", "down"'],
    ["another version", z.literal(1), 2, ": is 2, not 1"],
    [
      "a time without a zone",
      z.time(),
      "2026-07-01T10:00:00",
      ': "2026-07-01T10:00:00" is not a time in UTC',
    ],
    ["a day that is none", z.time(), "2026-13-01T10:00:00Z", ': "2026-13-01T10:00:00Z" is not a time in UTC'],
    ["a long prefix", z.cidrv4(), "10.0.0.0/33", ': "10.0.0.0/33" is not an IPv4 block'],
    [
      "a name that is no address",
      z.record(z.int(), z.ipv4()),
      { x: 1 },
      'x: address "x" is not an IPv4 address',
    ],
  ])("names %s", (_what, schema, value, message) => {
    expect(read(schema, value)).toContain(message);
  });

  it("takes times with and without a fraction, blocks with host bits, and the first that fits", () => {
    expect(read(z.time(), "2026-07-01T10:00:00Z")).toBe("2026-07-01T10:00:00Z");
    expect(read(z.time(), "2026-07-01T10:00:00.123Z")).toBe("2026-07-01T10:00:00.123Z");
    expect(read(z.cidrv4(), "10.99.0.7/24")).toBe("10.99.0.7/24");
    expect(read(z.union([z.literal(1), z.literal("moved")]), "moved")).toBe("moved");
    expect(
      read(
        z.preprocess((value) => Number(value), z.int()),
        "7",
      ),
    ).toBe(7);
  });
});
