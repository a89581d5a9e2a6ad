import { describeError } from "@cocoon-net/core";
import { exitCodeOf } from "../../src/failure.ts";
import type { Screen } from "../../src/live-screen.ts";
import { createProgram, isToldAlready } from "../../src/program.ts";

export interface Outcome {
  readonly out: readonly string[];
  /** Progress and warnings. */
  readonly said: readonly string[];
  /** The one line that a person gets; undefined when it succeeded. */
  readonly failure: string | undefined;
  readonly code: 0 | 1 | 2;
}

/** Runs `cocoon-net ARGS` in this process. */
export async function runCommand(
  args: readonly string[],
  options: {
    readonly signal?: AbortSignal;
    readonly env?: NodeJS.ProcessEnv;
    readonly screen?: Screen;
    readonly ask?: (question: string) => Promise<string>;
    /** Where the result is collected; for a command that goes on. */
    readonly out?: string[];
  } = {},
): Promise<Outcome> {
  const { out = [] } = options;
  const said: string[] = [];
  const context = {
    signal: options.signal ?? new AbortController().signal,
    env: options.env ?? process.env,
    screen: options.screen,
    ask: options.ask,
    print: (line: string) => void out.push(line),
    say: (line: string) => void said.push(line),
    requireRoot: () => {},
  };
  try {
    const program = createProgram(context);
    silence(program, said);
    await program.parseAsync([...args], { from: "user" });
    return { out, said, failure: undefined, code: 0 };
  } catch (error) {
    const failure = isToldAlready(error) ? said.at(-1) : describeError(error);
    return { out, said, failure, code: exitCodeOf(error) };
  }
}

function silence(command: ReturnType<typeof createProgram>, said: string[]): void {
  command.configureOutput({ writeErr: (text) => void said.push(text.trim()) });
  for (const inner of command.commands) silence(inner, said);
}
