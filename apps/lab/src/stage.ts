import { spawn } from "node:child_process";
import { once } from "node:events";

export interface StageOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** How long the next stage may take to end once it was asked to; then it is killed. */
  readonly graceMs: number;
  /** It is killed after this time in any case. */
  readonly limitMs?: number | undefined;
}

/**
 * The lab's next process, which does the work, while this one waits to clean up after it. Both get the terminal's
 * Ctrl-C; this one passes whatever asks it to end on as a SIGTERM, of which one more does no harm.
 */
export class Stage implements Disposable {
  readonly #signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  readonly #onSignal = () => this.#stop();
  #stopped = false;
  #stop: () => void = () => {
    this.#stopped = true;
  };

  constructor() {
    for (const signal of this.#signals) process.on(signal, this.#onSignal);
  }

  /** Runs a command line to its end. @returns its exit code */
  async run(argv: readonly string[], options: StageOptions): Promise<number> {
    if (this.#stopped) return interrupted;
    const [program = "", ...args] = argv;
    const child = spawn(program, args, { stdio: "inherit", env: options.env ?? process.env });
    const timers: NodeJS.Timeout[] = [];
    const killAfter = (ms: number): void => {
      timers.push(setTimeout(() => child.kill("SIGKILL"), ms));
    };
    this.#stop = () => {
      this.#stopped = true;
      child.kill("SIGTERM");
      killAfter(options.graceMs);
    };
    if (options.limitMs !== undefined) killAfter(options.limitMs);
    try {
      const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
      if (code !== null) return code;
      if (!this.#stopped) console.error(`the lab was ended by ${signal}`);
      if (signal === "SIGKILL") restoreTerminal();
      return this.#stopped ? interrupted : 1;
    } finally {
      for (const timer of timers) clearTimeout(timer);
      this.#stop = () => {};
    }
  }

  [Symbol.dispose](): void {
    for (const signal of this.#signals) process.off(signal, this.#onSignal);
  }
}

/** Exit code of what Ctrl-C ended. */
export const interrupted = 130;

/** A prompt that was killed leaves its terminal without echo. */
function restoreTerminal(): void {
  if (process.stdin.isTTY) spawn("stty", ["sane"], { stdio: "inherit" }).on("error", () => {});
}
