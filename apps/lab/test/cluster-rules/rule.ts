import { Bench, type StoreUnderTest } from "@cocoon-net/store-testkit";
import { it } from "vitest";

/** Makes a test out of a rule: it gets a prefix of its own, and its handles are closed after it. */
export type Rule = (name: string, run: (bench: Bench) => Promise<void>) => void;

export function ruleOn(subject: StoreUnderTest): Rule {
  return (name, run) =>
    it(name, async () => {
      await using bench = new Bench(subject);
      await run(bench);
    });
}
