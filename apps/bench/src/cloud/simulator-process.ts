import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import type { CallCounts, GceSimulatorOptions, VolcengineSimulatorOptions } from "@cocoon-net/cloud-testkit";

export type SimulatedCloud =
  | { readonly platform: "volcengine"; readonly options: VolcengineSimulatorOptions }
  | { readonly platform: "gke"; readonly options: GceSimulatorOptions };

export type Asked = (SimulatedCloud & { readonly nodes: number }) | { readonly results: true };

/** An instance of its own, as a program on it sees the cloud. */
export interface SimulatedNode {
  readonly env: Readonly<Record<string, string>>;
}

export type Told =
  | { readonly nodes: readonly SimulatedNode[] }
  | { readonly results: CallCounts }
  | { readonly failed: string };

const workerFile = fileURLToPath(new URL(`./simulator-worker${extname(import.meta.url)}`, import.meta.url));
const execArgv = workerFile.endsWith(".ts") ? ["--conditions=@cocoon-net/source"] : [];

/** A simulated cloud in a process of its own, with one instance for each node. */
export class SimulatorProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  #nodes: readonly SimulatedNode[] = [];

  private constructor() {
    this.#child = fork(workerFile, { execArgv, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  }

  static async start(cloud: SimulatedCloud, nodes: number): Promise<SimulatorProcess> {
    const started = new SimulatorProcess();
    try {
      const told = await started.#ask({ ...cloud, nodes });
      if ("nodes" in told) started.#nodes = told.nodes;
    } catch (error) {
      await started[Symbol.asyncDispose]();
      throw error;
    }
    return started;
  }

  get nodes(): readonly SimulatedNode[] {
    return this.#nodes;
  }

  async callResults(): Promise<CallCounts> {
    const told = await this.#ask({ results: true });
    return "results" in told ? told.results : {};
  }

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
    if (told === undefined) throw new Error("the simulator's process has ended");
    if ("failed" in told) throw new Error(`the simulator: ${told.failed}`);
    return told;
  }
}
