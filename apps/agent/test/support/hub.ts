import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { DisposeStack } from "@cocoon-net/core";
import { AgentNode } from "./agent-node.ts";
import type { HubApi } from "./hub-api.ts";
import { Namespace } from "./namespace.ts";

const program = fileURLToPath(new URL("./hub-process.ts", import.meta.url));
const address = "10.200.0.1";

/** The network between nodes: a bridge in a namespace of its own, with a store and a cloud on it. */
export class Hub implements AsyncDisposable {
  readonly namespace: Namespace;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting: Map<number, (answer: { result?: unknown; error?: string }) => void>;
  readonly #parts: DisposeStack;
  #calls = 0;
  #nodes = 0;

  private constructor(
    namespace: Namespace,
    child: ChildProcessByStdio<Writable, Readable, null>,
    parts: DisposeStack,
  ) {
    this.namespace = namespace;
    this.#child = child;
    this.#parts = parts;
    this.#waiting = new Map();
    createInterface({ input: child.stdout }).on("line", (line) => {
      const answer = JSON.parse(line) as { id: number; result?: unknown; error?: string };
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
    child.once("exit", () => {
      for (const settle of this.#waiting.values()) settle({ error: "the hub's process has ended" });
    });
  }

  static async create(): Promise<Hub> {
    await using parts = new DisposeStack();
    const namespace = parts.use(await Namespace.create());
    // A fixed MAC: else a node that joins may change it, and the others' ARP entries lead nowhere for half a minute.
    await namespace.ip("link", "add", "hub0", "address", "02:00:00:00:fe:01", "type", "bridge");
    await namespace.ip("address", "add", `${address}/24`, "dev", "hub0");
    await namespace.ip("link", "set", "hub0", "up");
    const argv = [...namespace.enter, process.execPath, "--conditions=@cocoon-net/source", program, address];
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...argv], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    parts.defer(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.stdin.end();
      const late = setTimeout(() => child.kill("SIGKILL"), 30_000);
      await ended;
      clearTimeout(late);
    });
    return new Hub(namespace, child, parts.move());
  }

  call<M extends keyof HubApi>(
    method: M,
    ...args: Parameters<HubApi[M]>
  ): Promise<Awaited<ReturnType<HubApi[M]>>> {
    const id = ++this.#calls;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, ({ result, error }) => {
        if (error === undefined) resolve(result as Awaited<ReturnType<HubApi[M]>>);
        else reject(new Error(`${method}: ${error}`));
      });
      this.#child.stdin.write(`${JSON.stringify({ id, method, args })}\n`);
    });
  }

  /** A node with eth0 on the hub's network. It ends with the hub. */
  async node(): Promise<AgentNode> {
    const node = this.#parts.use(await AgentNode.create());
    const number = ++this.#nodes;
    const peer = ["peer", "name", "eth0", "netns", node.namespace.name];
    await this.namespace.ip("link", "add", `p${number}`, "type", "veth", ...peer);
    await this.namespace.ip("link", "set", `p${number}`, "master", "hub0", "up");
    await node.namespace.ip("address", "add", `10.200.0.${10 + number}/24`, "dev", "eth0");
    await node.namespace.ip("link", "set", "eth0", "up");
    return node;
  }

  /** A program in the hub's namespace, e.g. the store's own client. */
  exec(...argv: readonly string[]): Promise<string> {
    return this.namespace.exec(...argv);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts[Symbol.asyncDispose]();
  }
}
