import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pause } from "@cocoon-net/core";
import { until } from "@cocoon-net/store-testkit";
import { expect, vi } from "vitest";

/** Of this repository. */
export const checkout: string = fileURLToPath(new URL("../../../../", import.meta.url));
const mark = "COCOON_LAB_TEST";
const limitMs = 340_000;
/** For a test of one run. */
export const timeout: number = limitMs + 5_000;

export interface LabRunOptions {
  readonly args: readonly string[];
  /** In front of `node lab.js`; default nothing. */
  readonly through?: readonly string[];
  /** Where the checkout is to be found through that; default where it is. */
  readonly checkout?: string;
  /** Directory for temporary files; default a new one. */
  readonly temporary?: string;
  /** Where its namespaces are to be seen; default where `ip netns` keeps this machine's. */
  readonly netns?: string;
}

/** One run of the lab as a user starts it, in a process group of its own, as a terminal gives it. */
export class LabRun implements AsyncDisposable {
  /** Everything that it makes in the file system goes here, so that what it leaves can be seen. */
  readonly temporary: string;
  output = "";
  readonly #id = randomUUID();
  readonly #netns: string;
  readonly #child: ChildProcess;
  readonly #end: Promise<unknown>;
  /** All that it printed has been read. */
  #ended = false;

  constructor(options: LabRunOptions) {
    const { args, through = [], checkout: root = checkout, temporary, netns = "/run/netns" } = options;
    this.#netns = netns;
    this.temporary = temporary ?? mkdtempSync(join(tmpdir(), "lab-test-"));
    const [program = "", ...rest] = [
      ...through,
      join(root, "node_modules/node/bin/node"),
      join(root, "apps/lab/bin/lab.js"),
      ...args,
    ];
    const env = { ...process.env, [mark]: this.#id, TMPDIR: this.temporary, NO_COLOR: "1" };
    this.#child = spawn(program, rest, { stdio: ["ignore", "pipe", "pipe"], detached: true, env });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
      });
    }
    this.#end = once(this.#child, "close").then(() => {
      this.#ended = true;
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Sends a signal to one process, or to the whole group as a terminal does. */
  signal(signal: NodeJS.Signals, target: "process" | "group"): void {
    process.kill(target === "group" ? -this.pid : this.pid, signal);
  }

  /** Resolves when it has printed that. @throws {Error} with the output when it ends before. */
  async printed(text: string): Promise<void> {
    const deadline = performance.now() + limitMs;
    while (!this.output.includes(text)) {
      if (this.#ended || performance.now() > deadline) {
        throw new Error(`the lab did not print "${text}", but:\n${this.output}`);
      }
      await pause(20);
    }
  }

  /** Its exit code, once it has ended. */
  async exitCode(): Promise<number | null> {
    const limit = setTimeout(() => this.#child.kill("SIGKILL"), limitMs);
    await this.#end;
    clearTimeout(limit);
    return this.#child.exitCode;
  }

  /** Processes that this run has started, whoever their parent is now: they all inherit its environment. */
  processes(): { pid: number; command: string }[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => readProc(pid, "environ").includes(`${mark}=${this.#id}`))
      .map((pid) => ({ pid: Number(pid), command: readProc(pid, "cmdline").replaceAll("\0", " ") }));
  }

  /** The first process of this run with such a command line, once it is there. @returns its pid */
  async process(command: RegExp): Promise<number> {
    return until(
      `a process ${command}`,
      10_000,
      () => this.processes().find((each) => command.test(each.command))?.pid,
    );
  }

  /** That nothing is left of it. A process that was killed may take a moment to be gone. */
  async leavesNothing(): Promise<void> {
    await comesTrue(() => expect(this.traces()).toEqual([]));
  }

  /** What is left of it: processes, namespaces, files. */
  traces(): string[] {
    return [
      ...this.processes().map(({ command }) => command),
      ...readdir(this.#netns).filter((name) => name.startsWith(`cocoon${this.pid}-`)),
      ...readdirSync(this.temporary),
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.signal("SIGINT", "group");
    await this.exitCode();
    rmSync(this.temporary, { recursive: true, force: true });
  }
}

/** As `expect.poll`, which tests that run at the same time cannot use. */
export async function comesTrue(claim: () => void): Promise<void> {
  await vi.waitFor(claim, { timeout: 20_000, interval: 25 });
}

function readdir(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function readProc(pid: string, file: "environ" | "cmdline"): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
}
