import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Asked, Told } from "./guests-worker.ts";
import type { GuestsOptions, Outcome } from "./relayed-guests.ts";

const extension = extname(import.meta.url);
const nodeFlags = extension === ".ts" ? ["--conditions=@cocoon-net/source"] : [];

/** The command that runs a program of this folder, compiled or a source as this file is. */
export function nodeCommand(name: string, ...args: readonly string[]): string[] {
  return [
    process.execPath,
    ...nodeFlags,
    fileURLToPath(new URL(`./${name}${extension}`, import.meta.url)),
    ...args,
  ];
}

/** Guests that renew, in a process of their own. One request at a time. */
export class GuestsProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #lines: Interface;

  /** @param prefix what goes before the command, such as `ip netns exec NAME` */
  constructor(options: GuestsOptions, prefix: readonly string[] = []) {
    const [program = "", ...args] = [...prefix, ...nodeCommand("guests-worker", JSON.stringify(options))];
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#child = child;
    this.#exited = once(child, "exit").catch(() => undefined);
    this.#lines = createInterface({ input: child.stdout });
  }

  /** Every guest gets a lease, this many each second; see `RelayedGuests`. */
  lease(rate: number): Promise<Outcome> {
    return this.#ask({ what: "lease", rate });
  }

  /** The guests renew in turn, at an even pace. */
  renew(rate: number, seconds: number): Promise<Outcome> {
    return this.#ask({ what: "renew", rate, seconds });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  async #ask(asked: Asked): Promise<Outcome> {
    const said = once(this.#lines, "line");
    this.#child.stdin?.write(`${JSON.stringify(asked)}\n`);
    const line: unknown[] | undefined = await Promise.race([said, this.#exited.then(() => undefined)]);
    if (line === undefined) throw new Error("the guests' process has ended");
    const told = JSON.parse(String(line[0])) as Told;
    if ("failed" in told) throw new Error(`the guests: ${told.failed}`);
    return told.outcome;
  }
}
