import type { DisposeStack } from "@cocoon-net/core";

/** What a task of a client process has of its parent. */
export interface TaskContext {
  /** Disposed after the result has been sent: what tidies up is not measured. */
  readonly stack: DisposeStack;
  /** Aborts when the parent has seen enough. */
  readonly finish: AbortSignal;
  /** Says that everything is prepared, and waits until the parent lets all processes go at once. */
  start(): Promise<void>;
  /** Says how much has been done so far. */
  progress(done: number): void;
}

/** A piece of work in a client process. Parameters and result cross process borders as JSON. */
export type Task<P, R> = (params: P, context: TaskContext) => Promise<R>;

export type ToWorker =
  | { readonly type: "run"; readonly task: string; readonly params: unknown }
  | { readonly type: "go" }
  | { readonly type: "finish" };

export type FromWorker =
  | { readonly type: "ready" }
  | { readonly type: "progress"; readonly done: number }
  /** `cpuMs`: processor time of this process since the parent let it go. */
  | { readonly type: "result"; readonly value: unknown; readonly cpuMs: number }
  | { readonly type: "failed"; readonly message: string }
  /** Everything of the task is closed; the next one may come. */
  | { readonly type: "ended" };
