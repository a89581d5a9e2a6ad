import { Bench, type Faults, type StoreUnderTest } from "@cocoon-net/store-testkit";
import { type ExpectStatic, it } from "vitest";

/**
 * Makes a test out of a rule: it gets a prefix of its own, and its handles are closed after it. Rules run at the same
 * time: what they `expect` of promises must be charged to themselves.
 */
export type Rule = (name: string, run: (bench: Bench, expect: ExpectStatic) => Promise<void>) => void;

export function ruleOn<Path extends Faults>(subject: StoreUnderTest<Path>): Rule {
  return (name, run) =>
    it(name, async ({ expect }) => {
      await using bench = new Bench(subject);
      await run(bench, expect);
    });
}
