import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import type { CloudCall } from "@cocoon-net/core";
import type { Target } from "../target.ts";
import type { ControllerSizes } from "./sizes.ts";

export interface ControllerParams {
  readonly target: Target;
  readonly id: string;
  readonly cloudEnv: Readonly<Record<string, string>>;
  readonly sizes: ControllerSizes;
}

export type Asked =
  | { readonly ask: "start"; readonly params: ControllerParams }
  /** Answered when it leads and knows so many nodes. */
  | { readonly ask: "loaded"; readonly nodes: number }
  /** Since they were asked for last. */
  | { readonly ask: "calls" };

export interface Told {
  readonly failed?: string;
  /** Milliseconds of the wall clock. */
  readonly at?: number;
  readonly calls?: readonly Pick<CloudCall, "action" | "result">[];
  readonly firstCallAt?: number | undefined;
  readonly problems?: readonly string[];
}

const workerFile = fileURLToPath(new URL(`./controller-worker${extname(import.meta.url)}`, import.meta.url));
const execArgv = workerFile.endsWith(".ts") ? ["--conditions=@cocoon-net/source"] : [];

/** A controller in a process of its own, so that its memory and its processor time are its own. */
export class ControllerProcess implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor() {
    this.#child = fork(workerFile, { execArgv, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  }

  static async start(params: ControllerParams): Promise<ControllerProcess> {
    const started = new ControllerProcess();
    try {
      await started.#ask({ ask: "start", params });
    } catch (error) {
      await started[Symbol.asyncDispose]();
      throw error;
    }
    return started;
  }

  /** Resolves when it leads and knows that many nodes, with the moment by the wall clock. */
  async loaded(nodes: number): Promise<number> {
    return (await this.#ask({ ask: "loaded", nodes })).at ?? Number.NaN;
  }

  /** Its cloud calls and problems since the last time. */
  async calls(): Promise<Told> {
    return await this.#ask({ ask: "calls" });
  }

  /** proc(5): processor time in ms since its start, and the most that it has held resident, in bytes. */
  usage(): { readonly cpuMs: number; readonly residentBytes: number } {
    const stat = readFileSync(`/proc/${this.#child.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const status = readFileSync(`/proc/${this.#child.pid}/status`, "utf8");
    return {
      cpuMs: (Number(fields[11]) + Number(fields[12])) * 10,
      residentBytes: Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1]) * 1_024,
    };
  }

  /** Kills it, as a machine that goes away does. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }

  /** One question at a time. */
  async #ask(asked: Asked): Promise<Told> {
    const answered = once(this.#child, "message");
    const gone = once(this.#child, "exit");
    this.#child.send(asked);
    const first = await Promise.race([answered, gone.then(() => undefined)]);
    const told: Told | undefined = first?.[0];
    if (told === undefined) throw new Error("the controller's process has ended");
    if (told.failed !== undefined) throw new Error(`the controller: ${told.failed}`);
    return told;
  }
}
