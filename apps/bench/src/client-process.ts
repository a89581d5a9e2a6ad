import type { ChildProcess } from "node:child_process";
import type { Tasks } from "./all-tasks.ts";
import { forkBeside, killChild } from "./child-program.ts";
import { type BenchServer, difference } from "./server.ts";
import type { FromWorker, Task, ToWorker } from "./task.ts";

export type TaskName = keyof Tasks;
export type ParamsOf<N extends TaskName> = Tasks[N] extends Task<infer P, unknown> ? P : never;
export type ResultOf<N extends TaskName> = Awaited<ReturnType<Tasks[N]>>;

/** A task that runs in a client process. */
export interface Job<R> {
  /** It has prepared everything and waits for {@link go}. */
  readonly ready: Promise<void>;
  go(): void;
  /** Tells a task that goes on until it is told. */
  finish(): void;
  readonly result: Promise<R>;
  /** Processor time of its process, once there is a result. */
  readonly cpuMs: number;
  /** It has closed everything. */
  readonly ended: Promise<void>;
}

/** A client of a store in a process of its own. One task at a time. */
export class ClientProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #gone: Promise<never>;
  #take: (message: FromWorker) => void = () => {};

  constructor() {
    this.#child = forkBeside(import.meta.url, "worker");
    this.#child.on("message", (message: FromWorker) => this.#take(message));
    const gone = Promise.withResolvers<never>();
    this.#child.once("error", gone.reject);
    this.#child.once("exit", (code, signal) =>
      gone.reject(new Error(`a client process ended with ${signal ?? `exit code ${code}`}`)),
    );
    gone.promise.catch(() => {});
    this.#gone = gone.promise;
  }

  /** `onProgress` is told how much has been done. */
  begin<N extends TaskName>(
    task: N,
    params: ParamsOf<N>,
    onProgress: (done: number) => void = () => {},
  ): Job<ResultOf<N>> {
    const ready = Promise.withResolvers<void>();
    const result = Promise.withResolvers<ResultOf<N>>();
    const ended = Promise.withResolvers<void>();
    let cpuMs = 0;
    this.#gone.catch((error) => {
      for (const { reject } of [ready, result, ended]) reject(error);
    });
    // Whoever waits for one of them learns of the failure; the others must not end the process.
    for (const { promise } of [ready, result, ended]) promise.catch(() => {});
    this.#take = (message) => {
      if (message.type === "ready") ready.resolve();
      else if (message.type === "progress") onProgress(message.done);
      else if (message.type === "result") {
        cpuMs = message.cpuMs;
        result.resolve(message.value as ResultOf<N>);
      } else if (message.type === "ended") ended.resolve();
      else {
        const error = new Error(`${task}: ${message.message}`);
        ready.reject(error);
        result.reject(error);
      }
    };
    this.#send({ type: "run", task, params });
    return {
      ready: ready.promise,
      go: () => this.#send({ type: "go" }),
      finish: () => this.#send({ type: "finish" }),
      result: result.promise,
      get cpuMs() {
        return cpuMs;
      },
      ended: ended.promise,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await killChild(this.#child);
  }

  #send(message: ToWorker): void {
    if (this.#child.connected) this.#child.send(message);
  }
}

export interface Together<R> {
  /** From the moment when all were let go to the last result. */
  readonly ms: number;
  /** Processor time of all of them and of the server in that time. */
  readonly cpuMs: number;
  /** The server's part of it. */
  readonly serverCpuMs: number;
  readonly results: readonly R[];
}

/** Runs one task in all processes, which begin at the same moment. */
export async function runTogether<N extends TaskName>(
  processes: readonly ClientProcess[],
  server: BenchServer,
  task: N,
  paramsOf: (index: number) => ParamsOf<N>,
  onProgress: (done: number) => void = () => {},
): Promise<Together<ResultOf<N>>> {
  const done = processes.map(() => 0);
  const jobs = processes.map((process, index) =>
    process.begin(task, paramsOf(index), (count) => {
      done[index] = count;
      onProgress(done.reduce((sum, each) => sum + each, 0));
    }),
  );
  await Promise.all(jobs.map((job) => job.ready));
  const before = await server.usage();
  const startedAt = performance.now();
  for (const job of jobs) job.go();
  const results = await Promise.all(jobs.map((job) => job.result));
  const ms = performance.now() - startedAt;
  const used = difference(before, await server.usage());
  await Promise.all(jobs.map((job) => job.ended));
  const cpuMs = jobs.reduce((sum, job) => sum + job.cpuMs, used.cpuMs);
  return { ms, cpuMs, serverCpuMs: used.cpuMs, results };
}
