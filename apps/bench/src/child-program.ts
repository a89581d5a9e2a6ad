import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { describeError } from "@cocoon-net/core";

/** Starts the program of that name beside a module: compiled where the module is, a source where it is one. */
export function forkBeside(module: string, name: string): ChildProcess {
  const extension = extname(module);
  return fork(fileURLToPath(new URL(`./${name}${extension}`, module)), {
    execArgv: extension === ".ts" ? ["--conditions=@cocoon-net/source"] : [],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
}

/** Kills it, as a machine that goes away does, and resolves when it is gone. */
export async function killChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

/** What a program can be asked, by name. Parameters and answers cross the process border as JSON. */
export type Answers = Readonly<Record<string, (...params: never[]) => unknown>>;

interface Asked {
  readonly question: string;
  readonly params: readonly unknown[];
}

type Told = { readonly answer: unknown } | { readonly failed: string };

/** A program of ours in a process of its own that answers one question at a time. */
export class AskedProgram<A extends Answers> implements AsyncDisposable {
  readonly #title: string;
  readonly #child: ChildProcess;
  readonly #gone: Promise<undefined>;

  /** @param title what an error calls it */
  constructor(title: string, child: ChildProcess) {
    this.#title = title;
    this.#child = child;
    const gone = Promise.withResolvers<undefined>();
    child.once("exit", () => gone.resolve(undefined));
    this.#gone = gone.promise;
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`${this.#title} has not started`);
    return this.#child.pid;
  }

  async ask<N extends keyof A & string>(
    question: N,
    ...params: Parameters<A[N]>
  ): Promise<Awaited<ReturnType<A[N]>>> {
    const answered = once(this.#child, "message");
    this.#child.send({ question, params } satisfies Asked);
    const told: Told | undefined = (await Promise.race([answered, this.#gone]))?.[0];
    if (told === undefined) throw new Error(`${this.#title} has ended`);
    if ("failed" in told) throw new Error(`${this.#title}: ${told.failed}`);
    return told.answer as Awaited<ReturnType<A[N]>>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await killChild(this.#child);
  }
}

/** In such a program: answers its parent, and ends with it. */
export function answerParent(answers: Answers): void {
  const answer = async ({ question, params }: Asked): Promise<Told> => {
    try {
      return { answer: await (answers as AnyAnswers)[question]?.(...params) };
    } catch (error) {
      return { failed: describeError(error) };
    }
  };
  process.on("message", async (asked: Asked) => process.send?.(await answer(asked)));
  process.on("disconnect", () => process.exit());
}

type AnyAnswers = Readonly<Record<string, (...params: readonly unknown[]) => unknown>>;
