import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Bench, Check, CheckGroup } from "../check.ts";
import type { Faults } from "../faults.ts";
import { until, within } from "../waiting.ts";
import { summary, WatchLog } from "../watch-log.ts";
import { put } from "../writing.ts";

/** A holder that renews it outlives a machine that stops for 2 s. */
const ttlMs = 4_000;
/** Time after which a server must have ended a session that it no longer hears from. */
const ending = 4 * ttlMs + 4_000;
/** Time for a process to start, on a busy machine too. */
const starting = 20_000;

export const processes: CheckGroup = {
  name: "processes",
  checks: [
    ...(["none", "refuse", "blackhole"] as const).map(
      (fault): Check => ({
        name: `a process ends by itself once it has disposed its store (fault: ${fault})`,
        needs: fault === "none" ? ["driver"] : ["driver", "faults"],
        async run(bench) {
          const faults = fault === "none" ? undefined : await bench.makeFaults();
          await using holder = await Holder.start(bench, faults);
          if (fault !== "none") await faults?.[fault]();
          await holder.dispose();
        },
      }),
    ),
    {
      name: "a holder that was stopped past its time knows it when it goes on, and writes nothing more",
      needs: ["driver"],
      async run(bench) {
        const other = await bench.open();
        await using holder = await Holder.start(bench);
        const log = bench.use(new WatchLog(other, "s/"));
        await log.until("the holder's key", 15_000, () => log.state.has("s/beat"));
        holder.kill("SIGSTOP");
        await log.until("its key to vanish", ending, () => !log.state.has("s/beat"));
        const told = log.changes.length;
        holder.kill("SIGCONT");
        await until("it to know", 10_000, () => holder.said.includes("over"));
        await holder.dispose();
        await put(other, "s/last", "");
        await log.until("the last write", 15_000, () => log.state.has("s/last"));
        assert.deepEqual(summary(log.changes.slice(told)), ["s/last="]);
      },
    },
    {
      name: "a killed holder's key vanishes, in its time and not before",
      needs: ["driver"],
      async run(bench) {
        const log = bench.use(new WatchLog(await bench.open(), "s/"));
        await using holder = await Holder.start(bench);
        await log.until("the holder's key", 15_000, () => log.state.has("s/beat"));
        holder.kill("SIGKILL");
        const killedAt = performance.now();
        await log.until("its key to vanish", ending, () => !log.state.has("s/beat"));
        const lived = performance.now() - killedAt;
        // Not with the connection. Renewed at a third of its time, and later on a busy machine.
        assert.ok(lived >= ttlMs / 8, `vanished ${Math.round(lived)} ms after the kill`);
      },
    },
  ],
};

/** A process that runs store-process.ts. */
class Holder implements AsyncDisposable {
  readonly #child: ChildProcess;
  #output = "";
  #errors = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#output += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#errors = (this.#errors + text).slice(-4_096);
    });
  }

  /** Resolves when it holds `s/beat` and watches. */
  static async start(bench: Bench, via?: Faults): Promise<Holder> {
    const { module, url } = bench.driver(via);
    // From its source where this file is run from its source.
    const source = import.meta.url.endsWith(".ts");
    const program = fileURLToPath(new URL(`../store-process.${source ? "ts" : "js"}`, import.meta.url));
    const conditions = source ? ["--conditions=@cocoon-net/source"] : [];
    const child = spawn(process.execPath, [...conditions, program, module, url, `${ttlMs}`], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    const holder = new Holder(child);
    try {
      await until("a process to open the store, write and watch", starting, () => {
        assert.equal(child.exitCode, null, `the process has ended: ${holder.#errors}`);
        return holder.said.includes("writing") && holder.said.includes("snapshot");
      });
    } catch (error) {
      await holder[Symbol.asyncDispose]();
      throw error;
    }
    return holder;
  }

  get said(): readonly string[] {
    return this.#output.split("\n");
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Tells it to dispose its store, and waits for its end. */
  async dispose(): Promise<void> {
    const exited = once(this.#child, "exit");
    this.#child.stdin?.write("dispose\n");
    await until("the disposal", 15_000, () => this.said.includes("disposed"));
    const [code] = await within("the end of the process", 5_000, exited);
    assert.equal(code, 0, this.#errors);
    assert.equal(this.#errors, "", "it complains about nothing");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }
}
