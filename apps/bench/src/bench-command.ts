import { writeFileSync } from "node:fs";
import { describeError, InvalidError } from "@cocoon-net/core";
import { type Figure, isMet, ratioOf } from "./figure.ts";
import { formatTable, type TableWords } from "./table.ts";
import type { StoreKind } from "./target.ts";

type Main = (args: readonly string[]) => Promise<void>;

/** A benchmark's command. It exits 0 also when an aim is not met: how fast a machine is decides no build. */
export function benchCommand(run: Main): Main {
  return async (args) => {
    try {
      await run(args);
    } catch (error) {
      console.error(describeError(error));
      process.exitCode = 1;
    }
  };
}

/** What a benchmark has found. */
export interface Outcome {
  readonly figures: readonly Figure[];
  /** What the reader has to know beside them. */
  readonly notes?: readonly string[];
  /** What could not be measured, each with the reason in one line. */
  readonly failures: readonly string[];
}

export interface OutcomeOptions {
  /** Of the whole run. */
  readonly seconds: number;
  readonly quick: boolean;
  readonly words?: TableWords;
  /** Where the same goes as JSON. */
  readonly json?: string | undefined;
}

/** Prints the table, and writes it down for programs. */
export function reportOutcome(outcome: Outcome, { seconds, quick, words, json }: OutcomeOptions): void {
  const { figures, notes = [], failures } = outcome;
  const { length: missed } = figures.filter((figure) => isMet(figure) === false);
  console.log(`\n${formatTable(figures, words)}\n`);
  for (const note of notes) console.log(note);
  console.log(`\n${seconds} s. ${missed} aims not met.${quick ? " Small sizes." : ""}`);
  for (const failure of failures) console.log(`could not be measured: ${failure}`);
  if (failures.length > 0) process.exitCode = 1;
  if (json === undefined) return;
  const rows = figures.map((figure) => ({ ...figure, ratio: ratioOf(figure), met: isMet(figure) }));
  writeFileSync(json, `${JSON.stringify({ seconds, figures: rows, notes, failures }, undefined, 2)}\n`);
}

/** The value of `--store`. @throws {InvalidError} */
export function storeKind(text: string, usage: string): StoreKind {
  if (text === "etcd" || text === "redis") return text;
  throw new InvalidError(`--store ${text} is not known`, { hint: usage });
}
