import { expect, it } from "vitest";
import { formatDuration, parseDuration } from "../src/duration.ts";

it("durations are read", () => {
  for (const [text, ms] of [
    ["500ms", 500],
    ["30s", 30_000],
    ["1h30m", 5_400_000],
    ["1.5s", 1_500],
  ] as const) {
    expect(parseDuration(text)).toBe(ms);
  }
  for (const text of ["", "30", "s", "1d", "-5s", "5 s", "1h-30m"]) {
    expect(() => parseDuration(text)).toThrow("is not a duration");
  }
});

it("durations are shown by their two largest units", () => {
  expect([0, 59_000, 3_600_000, 90_061_000, -5].map(formatDuration)).toEqual([
    "0s",
    "59s",
    "1h",
    "1d1h",
    "0s",
  ]);
});
