import { type ChildProcessByStdio, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { CocoonError } from "@cocoon-net/core";
import type { Api } from "./resident.ts";

const run = promisify(execFile);
const RESIDENT = fileURLToPath(new URL("./resident.ts", import.meta.url));

/** A network namespace of its own, deleted with everything in it. */
export class Namespace implements AsyncDisposable {
  readonly name: string = `hl${randomBytes(4).toString("hex")}`;

  static async create(): Promise<Namespace> {
    const namespace = new Namespace();
    await run("ip", ["netns", "add", namespace.name]).catch((error: unknown) => {
      throw new Error("network namespaces are needed: run as root with iproute2 installed", { cause: error });
    });
    await namespace.ip("link", "set", "lo", "up");
    return namespace;
  }

  async ip(...args: string[]): Promise<string> {
    return (await run("ip", ["-n", this.name, ...args])).stdout;
  }

  async exec(program: string, ...args: string[]): Promise<string> {
    return (await run("ip", ["netns", "exec", this.name, program, ...args])).stdout;
  }

  /** Starts a program here and waits for its first output. */
  async serve(program: string, ...args: string[]): Promise<AsyncDisposable & { pid: number | undefined }> {
    const child = spawn("ip", ["netns", "exec", this.name, program, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const stop = async (): Promise<void> => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, "exit");
      child.kill();
      await exit;
    };
    await once(child.stdout, "data", { signal: AbortSignal.timeout(30_000) });
    return { pid: child.pid, [Symbol.asyncDispose]: stop };
  }

  /** What the kernel holds, without what changes by itself (counters, timers, ages). */
  async snapshot(): Promise<string> {
    const parts = [
      await this.ip("-j", "link"),
      await this.ip("-j", "address"),
      await this.ip("-j", "route", "show", "table", "all"),
      await this.ip("-j", "neigh"),
      await this.exec("iptables-nft-save"),
      await this.exec("iptables-legacy-save"),
    ];
    return parts.join("\n").replaceAll(/^#.*$|\[\d+:\d+\]/gm, "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run("ip", ["netns", "del", this.name]);
  }
}

/** Two links that are one cable: `left` in one namespace, `right` in the other; both up. */
export async function connect(
  left: { namespace: Namespace; name: string },
  right: { namespace: Namespace; name: string },
): Promise<void> {
  await left.namespace.ip(
    "link",
    "add",
    left.name,
    "type",
    "veth",
    "peer",
    "name",
    right.name,
    "netns",
    right.namespace.name,
  );
  await left.namespace.ip("link", "set", left.name, "up");
  await right.namespace.ip("link", "set", right.name, "up");
}

interface Answer {
  id: number;
  result?: unknown;
  error?: { code: string; message: string; hint?: string };
}

/** A process inside a namespace that calls the package's functions there. */
export class Resident implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting: Map<number, (answer: Answer) => void> = new Map();
  #last = 0;

  constructor(namespace: Namespace) {
    const node = [process.execPath, "--conditions=@cocoon-net/source", RESIDENT];
    this.#child = spawn("ip", ["netns", "exec", namespace.name, ...node], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      const answer = JSON.parse(line) as Answer;
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
    this.#child.on("exit", () => {
      for (const [id, settle] of this.#waiting) {
        settle({ id, error: { code: "unexpected", message: "the resident process has ended" } });
      }
    });
  }

  async call<M extends keyof Api>(
    method: M,
    ...args: Parameters<Api[M]>
  ): Promise<Awaited<ReturnType<Api[M]>>> {
    const id = ++this.#last;
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.stdin.write(`${JSON.stringify({ id, method, args })}\n`);
    });
    if (answer.error !== undefined) {
      const { code, message, hint } = answer.error;
      throw new CocoonError(code, message, hint === undefined ? {} : { hint });
    }
    return answer.result as Awaited<ReturnType<Api[M]>>;
  }

  /** How often its main thread wakes within a time. */
  async wakeUps(ms: number): Promise<number> {
    const count = async (): Promise<number> => {
      const status = await readFile(`/proc/${this.#child.pid}/status`, "utf8");
      return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
    };
    const before = await count();
    await pause(ms);
    return (await count()) - before;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, "exit");
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 15_000);
    await exit;
    clearTimeout(timer);
  }
}

/** Until the bridge passes on what comes from that port: its carrier is told to it some time after the link is up. */
export async function forwards(namespace: Namespace, port: string): Promise<void> {
  await eventually(`bridge port ${port} forwards`, async () => {
    const [link] = JSON.parse(await namespace.ip("-j", "-d", "link", "show", port));
    return link.linkinfo.info_slave_data.state === "forwarding" ? true : undefined;
  });
}

/** Looks until `look` finds something, at most 20 s. */
export async function eventually<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const isLate = performance.now() > deadline;
    const found = await look();
    if (found !== undefined) return found;
    if (isLate) throw new Error(`${what}: not within 20 s`);
    await pause(20);
  }
}
