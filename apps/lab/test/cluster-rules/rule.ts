import { Bench, type Faults, type StoreUnderTest } from "@cocoon-net/store-testkit";
import { type ExpectStatic, it } from "vitest";

/** A test's time, and that of a wait in it: of no meaning, and long enough for a machine that is busy or stands still. */
const testMs = 120_000;
export const patienceMs = 60_000;
/** Of a session that must not end in the test, however long this process was stopped for. */
export const lastingTtlMs = 90_000;

/**
 * The moment after everything that is due in this turn of the event loop: where this process stood still, timers that
 * were due one after the other run in the same turn, in any order.
 */
export async function momentAfter(): Promise<number> {
  await new Promise((resolve) => setImmediate(resolve));
  return performance.now();
}

/**
 * Makes a test out of a rule: it gets a prefix of its own, and its handles are closed after it. Rules run at the same
 * time: what they `expect` of promises must be charged to themselves.
 */
export type Rule = (name: string, run: (bench: Bench, expect: ExpectStatic) => Promise<void>) => void;

export function ruleOn<Path extends Faults>(subject: StoreUnderTest<Path>): Rule {
  return (name, run) =>
    it(name, { timeout: testMs }, async ({ expect }) => {
      await using bench = new Bench(subject);
      await run(bench, expect);
    });
}
