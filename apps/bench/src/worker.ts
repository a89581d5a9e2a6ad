import { DisposeStack, describeError } from "@cocoon-net/core";
import { tasks } from "./all-tasks.ts";
import type { FromWorker, Task, ToWorker } from "./task.ts";

/** A client process: runs one task after another, as its parent says, and ends with it. */

let go = Promise.withResolvers<void>();
let finish = new AbortController();

process.on("message", (message: ToWorker) => {
  if (message.type === "go") go.resolve();
  else if (message.type === "finish") finish.abort();
  else void run(message.task, message.params);
});
process.on("disconnect", () => process.exit(1));

async function run(name: string, params: unknown): Promise<void> {
  go = Promise.withResolvers<void>();
  finish = new AbortController();
  const task = (tasks as unknown as Readonly<Record<string, Task<unknown, unknown>>>)[name];
  const stack = new DisposeStack();
  let before = process.cpuUsage();
  try {
    if (task === undefined) throw new Error(`there is no task ${name}`);
    const value = await task(params, {
      stack,
      finish: finish.signal,
      async start() {
        send({ type: "ready" });
        await go.promise;
        before = process.cpuUsage();
      },
      progress: (done) => send({ type: "progress", done }),
    });
    const { user, system } = process.cpuUsage(before);
    send({ type: "result", value, cpuMs: (user + system) / 1_000 });
  } catch (error) {
    send({ type: "failed", message: describeError(error) });
  }
  await stack[Symbol.asyncDispose]().catch(() => {});
  send({ type: "ended" });
}

function send(message: FromWorker): void {
  if (process.connected) process.send?.(message);
}
