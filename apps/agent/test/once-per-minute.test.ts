import { expect, it } from "vitest";
import { OncePerMinute } from "../src/once-per-minute.ts";

it("lets the first through, and then one a minute, each kind by itself, without growing for ever", () => {
  const refusals = new OncePerMinute();
  expect([refusals.isDue("a", 0), refusals.isDue("a", 59_999), refusals.isDue("b", 59_999)]).toEqual([
    true,
    false,
    true,
  ]);
  expect([refusals.isDue("a", 60_000), refusals.isDue("a", 60_001)]).toEqual([true, false]);
  for (let index = 0; index < 5_000; index++) expect(refusals.isDue(`mac-${index}`, 60_002)).toBe(true);
});
