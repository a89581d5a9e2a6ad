import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { DisposeStack } from "@cocoon-net/core";
import { type Finished, finish, Running } from "./command.ts";
import { Guest } from "./guest.ts";
import { Namespace } from "./namespace.ts";

const cli = fileURLToPath(new URL("../../bin/cocoon-net.js", import.meta.url));

/** Where `cocoon-net` runs: nothing of the host's files or network is touched. */
export class AgentNode implements AsyncDisposable {
  readonly namespace: Namespace;
  readonly directory: string;
  /** Added to the environment of every command. */
  readonly env: Record<string, string> = {};
  readonly #parts: DisposeStack;

  private constructor(namespace: Namespace, directory: string, parts: DisposeStack) {
    this.namespace = namespace;
    this.directory = directory;
    this.#parts = parts;
  }

  static async create(): Promise<AgentNode> {
    await using parts = new DisposeStack();
    const directory = await mkdtemp(join(tmpdir(), "cocoon-agent-"));
    parts.defer(() => rm(directory, { recursive: true, force: true }));
    const namespace = parts.use(await Namespace.create());
    // `ip netns exec` puts it in the place of the host's own /etc/cron.d.
    const etc = join("/etc/netns", namespace.name);
    parts.defer(() => rm(etc, { recursive: true, force: true }));
    await mkdir(join(etc, "cron.d"), { recursive: true });
    return new AgentNode(namespace, directory, parts.move());
  }

  /** A file of the node's /etc/cron.d. */
  cronPath(name: string): string {
    return join("/etc/netns", this.namespace.name, "cron.d", name);
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** The command's argv inside the namespace. `prefix` goes in front of Node. */
  argv(args: readonly string[], prefix: readonly string[] = []): string[] {
    return [...this.namespace.enter, ...prefix, process.execPath, cli, ...args];
  }

  run(...args: readonly string[]): Promise<Finished> {
    return finish(this.argv(args), { env: this.environment });
  }

  /** The same for what has to succeed. @returns its output */
  async do(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...args);
    if (code !== 0) throw new Error(`cocoon-net ${args.join(" ")}: ${code}: ${stderr}${stdout}`);
    return stdout;
  }

  get environment(): NodeJS.ProcessEnv {
    const { COCOON_NET_STORE, COCOON_NET_METRICS_ADDR, COCOON_NET_LOG_LEVEL, ...env } = process.env;
    return { ...env, NO_PROXY: "*", ...this.env };
  }

  /** `init` and `adopt` with their files below the node's directory. */
  setUpArgs(command: "init" | "adopt", ...more: readonly string[]): string[] {
    return [command, "--platform", "gke", "--node-name", "n1", ...this.#files, ...more];
  }

  adopt(...more: readonly string[]): Promise<string> {
    return this.do(...this.setUpArgs("adopt", ...more));
  }

  resizeArgs(...more: readonly string[]): string[] {
    const leases = ["--lease-file", this.path("leases.json")];
    return ["resize", ...this.#files, ...leases, "--skip-iptables", ...more];
  }

  daemonArgs(...more: readonly string[]): string[] {
    const files = [...this.#files, "--lease-file", this.path("leases.json"), "--skip-iptables"];
    return ["daemon", ...files, "--metrics-addr", "127.0.0.1:9092", ...more];
  }

  /** Starts the daemon and waits until it serves. It is killed with the node. */
  async daemon(...more: readonly string[]): Promise<Running> {
    const daemon = this.#parts.use(
      new Running("daemon", this.argv(this.daemonArgs(...more)), this.environment),
    );
    await daemon.says('"serving"');
    return daemon;
  }

  async guest(): Promise<Guest> {
    return this.#parts.use(await Guest.plugIn(this.namespace, this.directory));
  }

  /** `leases.json` as `address mac` lines. */
  async leases(): Promise<string[]> {
    const text = await readFile(this.path("leases.json"), "utf8");
    return (JSON.parse(text) as { ip: string; mac: string }[]).map(({ ip, mac }) => `${ip} ${mac}`);
  }

  async json<T>(name: string): Promise<T> {
    return JSON.parse(await readFile(this.path(name), "utf8")) as T;
  }

  async write(name: string, value: unknown): Promise<void> {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    await mkdir(dirname(this.path(name)), { recursive: true });
    await writeFile(this.path(name), text);
  }

  /** Addresses with a /32 route to the bridge. */
  async routes(): Promise<string[]> {
    const routes = JSON.parse(await this.namespace.ip("-j", "route", "show", "dev", "cni0")) as {
      dst: string;
    }[];
    return routes.map(({ dst }) => dst).filter((dst) => !dst.includes("/"));
  }

  async metrics(): Promise<string> {
    const script = `fetch("http://127.0.0.1:9092/metrics").then((answer) => answer.text()).then(console.log)`;
    return this.namespace.exec(process.execPath, "-e", script);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts[Symbol.asyncDispose]();
  }

  get #files(): string[] {
    const conflist = this.path("30-cocoon-dhcp.conflist");
    return [
      ...["--state-dir", this.path("state"), "--pid-file", this.path("daemon.pid")],
      ...["--cni-conflist", conflist],
    ];
  }
}
