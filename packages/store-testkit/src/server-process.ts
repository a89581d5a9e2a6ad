import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { NotFoundError, UnavailableError } from "@cocoon-net/core";
import { TimeoutError, until, within } from "./waiting.ts";

/** A real server that was started for a test. Its data outlives {@link stop}, not the disposal. */
export interface TestServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  /** Undefined while it is stopped. */
  readonly pid: number | undefined;
  /** The last of what it has printed. */
  readonly output: string;
  /** Starts it anew after {@link stop}, on the same port and data. Resolves when it serves. */
  start(): Promise<void>;
  /** Sends `signal` (default SIGTERM) and waits for its end; kills it when 10 s were not enough. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Stop, then start. */
  restart(signal?: NodeJS.Signals): Promise<void>;
  /** SIGSTOP: connections stay open and nothing answers. Returns once no thread of it runs. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
}

export interface TestServerOptions {
  /** Program to run; default the first of that name in PATH. */
  readonly binary?: string;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default a free one. */
  readonly port?: number;
  /** Default a new directory in the system's temporary one, removed at disposal. */
  readonly dataDir?: string;
  /** Appended to the command line. */
  readonly extraArgs?: readonly string[];
  /** Deadline for serving; default 20,000. */
  readonly startTimeoutMs?: number;
}

/** What differs from server to server. */
export interface ServerRecipe {
  readonly name: string;
  readonly binary: string;
  readonly host: string;
  readonly port: number;
  readonly dataDir: string | undefined;
  readonly startTimeoutMs: number;
  args(dataDir: string): readonly string[];
  /** True when the server answers requests. May reject. */
  serves(): Promise<boolean>;
}

/**
 * The program's path.
 * @throws {NotFoundError} when it is not there, saying what to install.
 */
export function findBinary(name: string, install: string): string {
  const candidates = name.includes("/")
    ? [resolve(name)]
    : (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, name));
  const found = candidates.find((path) => isExecutable(path));
  if (found === undefined) throw new NotFoundError(`${name} is not installed: ${install}`);
  return found;
}

export async function startServer(recipe: ServerRecipe): Promise<TestServer> {
  const server = new ServerProcess(recipe);
  try {
    await server.start();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

const stopTimeoutMs = 10_000;
const outputLength = 8_192;

class ServerProcess implements TestServer {
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  output = "";
  readonly #recipe: ServerRecipe;
  #child: ChildProcess | undefined;
  // The parent's end must not leave a server behind, nor its data.
  readonly #onExit = () => this.#discard();

  constructor(recipe: ServerRecipe) {
    this.#recipe = recipe;
    this.host = recipe.host;
    this.port = recipe.port;
    this.dataDir = recipe.dataDir ?? mkdtempSync(join(tmpdir(), `cocoon-net-${recipe.name}-`));
    process.on("exit", this.#onExit);
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async start(): Promise<void> {
    if (this.#child !== undefined) return;
    const { name, binary, startTimeoutMs } = this.#recipe;
    const [command, ...args] = [...dieWithParent(), binary, ...this.#recipe.args(this.dataDir)];
    const child = spawn(command ?? binary, args, { stdio: ["ignore", "pipe", "pipe"], cwd: this.dataDir });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.output = (this.output + text).slice(-outputLength);
      });
    }
    let end: string | undefined;
    child.once("error", (error) => {
      end = error.message;
      if (this.#child === child) this.#child = undefined;
    });
    child.once("exit", (code, signal) => {
      end = `ended with ${signal ?? `exit code ${code}`}`;
      if (this.#child === child) this.#child = undefined;
    });
    try {
      await until(`${name} on ${this.host}:${this.port} to serve`, startTimeoutMs, async () => {
        return end !== undefined || (await this.#recipe.serves());
      });
    } catch (error) {
      end = error instanceof Error ? error.message : String(error);
    }
    if (end === undefined) return;
    await this.stop("SIGKILL");
    throw new UnavailableError(`${binary} did not start: ${end}; it said: ${lastLines(this.output)}`, {
      outcome: "none",
    });
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const exited = once(child, "exit");
    child.kill(signal);
    // A stopped process does not see its signals before it goes on.
    if (signal !== "SIGKILL") child.kill("SIGCONT");
    try {
      await within(`${this.#recipe.name} to end`, stopTimeoutMs, exited);
    } catch {
      child.kill("SIGKILL");
      await within(`${this.#recipe.name} to end after SIGKILL`, stopTimeoutMs, exited);
    }
  }

  async restart(signal?: NodeJS.Signals): Promise<void> {
    await this.stop(signal);
    await this.start();
  }

  pause(): void {
    const child = this.#child;
    if (child?.pid === undefined) return;
    child.kill("SIGSTOP");
    // The signal only asks: until each thread was scheduled once more, the server may still answer.
    const deadline = performance.now() + stopTimeoutMs;
    while (!isStopped(child.pid)) {
      if (performance.now() > deadline) throw new TimeoutError(`${this.#recipe.name} to stop`, stopTimeoutMs);
      Atomics.wait(sleepCell, 0, 0, 1);
    }
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off("exit", this.#onExit);
    await this.stop("SIGKILL");
    this.#discard();
  }

  #discard(): void {
    this.#child?.kill("SIGKILL");
    if (this.#recipe.dataDir === undefined) rmSync(this.dataDir, { recursive: true, force: true });
  }
}

const sleepCell = new Int32Array(new SharedArrayBuffer(4));

/** True when every thread of the process is in state T (proc(5)) or gone; also where there is no /proc. */
function isStopped(pid: number): boolean {
  const tasks = `/proc/${pid}/task`;
  if (!existsSync(tasks)) return true;
  return readdirSync(tasks).every((thread) => {
    try {
      const stat = readFileSync(`${tasks}/${thread}/stat`, "latin1");
      return /^[TZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
    } catch {
      return true;
    }
  });
}

/** Lets the kernel kill the server when this process ends in a way that runs no handler. */
function dieWithParent(): string[] {
  const setpriv = "/usr/bin/setpriv";
  return isExecutable(setpriv) ? [setpriv, "--pdeathsig", "KILL", "--"] : [];
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function lastLines(output: string): string {
  return output.trim().split("\n").slice(-3).join(" / ") || "nothing";
}
