import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type DhcpPacket, decodePacket, formatMac, type ServerEvent } from "@cocoon-net/dhcp";
import { onTestFinished } from "vitest";
import { scratchDirectory, until } from "../scratch-directory.ts";

export const run = promisify(execFile);
const program = fileURLToPath(new URL("./namespace-server.ts", import.meta.url));

export async function need(name: string, how: string): Promise<void> {
  await run("sh", ["-c", `command -v ${name}`]).catch(() => {
    throw new Error(`${name} is missing: ${how}`);
  });
}

/** What the server is started with; the pool is 10.99.0.2 … */
export interface ServerSettings {
  readonly poolSize?: number;
  readonly leaseMs?: number;
  readonly renewMs?: number;
  readonly rebindMs?: number;
}

/** A client's message as the server got it. */
export interface Heard {
  readonly mac: string;
  /** Option 53. */
  readonly type: number;
  readonly packet: DhcpPacket;
  readonly hex: string;
}

/** A host namespace with a bridge whose ports are isolated from each other, and guests on it. Everything goes with the test. */
export class Lan {
  readonly #id = randomBytes(3).toString("hex");
  readonly host: string = `dh${this.#id}`;
  readonly directory: string;
  output = "";
  #server: ChildProcess | undefined;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async make(): Promise<Lan> {
    await need("ip", "apt-get install iproute2");
    const lan = new Lan(await scratchDirectory());
    await lan.#namespace(lan.host);
    // A fixed MAC, as the agent gives it: else a client that comes may change it, and the others' ARP entries lead nowhere.
    await lan.ip("link", "add", "cni0", "address", "02:00:00:00:fd:01", "type", "bridge");
    await lan.ip("addr", "add", "10.99.0.1/24", "dev", "cni0");
    await lan.ip("link", "set", "cni0", "up");
    await lan.ip("route", "add", "255.255.255.255/32", "dev", "cni0");
    return lan;
  }

  async #namespace(name: string): Promise<void> {
    await run("ip", ["netns", "add", name]).catch((cause: unknown) => {
      throw new Error("this test makes network namespaces: run it as root", { cause });
    });
    onTestFinished(async () => {
      await run("ip", ["netns", "del", name]);
    });
  }

  async ip(...args: string[]): Promise<string> {
    return (await run("ip", ["-n", this.host, ...args])).stdout;
  }

  /** A namespace with eth0 on the bridge. @returns its name */
  async guest(index: number, mac: string): Promise<string> {
    const name = `dg${this.#id}${index}`;
    const port = `p${this.#id}${index}`;
    await this.#namespace(name);
    await this.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", name);
    await this.ip("link", "set", port, "master", "cni0", "up");
    await this.ip("link", "set", port, "type", "bridge_slave", "isolated", "on");
    await run("ip", ["-n", name, "link", "set", "lo", "up"]);
    await run("ip", ["-n", name, "link", "set", "eth0", "up"]);
    return name;
  }

  /** Lets the guests hear each other. */
  async join(): Promise<void> {
    for (const { ifname } of JSON.parse(await this.ip("-j", "link", "show", "master", "cni0"))) {
      await this.ip("link", "set", ifname, "type", "bridge_slave", "isolated", "off");
    }
  }

  async start(settings: ServerSettings = {}): Promise<void> {
    const node = [process.execPath, "--conditions=@cocoon-net/source", program];
    const args = [...node, this.directory, "cni0", JSON.stringify(settings)];
    const server = spawn("ip", ["netns", "exec", this.host, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    this.#server = server;
    const from = this.output.length;
    for (const stream of [server.stdout, server.stderr]) {
      stream.on("data", (data) => {
        this.output += data;
      });
    }
    onTestFinished(() => this.kill());
    await until(() => this.output.slice(from).includes("ready\n"), "the server", 40_000).catch(
      (error: unknown) => {
        throw new Error(`the server did not start: ${this.output}`, { cause: error });
      },
    );
  }

  /** Like a power cut for the process: nothing is flushed. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const gone = new Promise((resolve) => server.once("exit", resolve));
    server.kill("SIGKILL");
    await gone;
  }

  #lines(): { readonly type: string }[] {
    const whole = this.output.slice(0, this.output.lastIndexOf("\n") + 1).split("\n");
    return whole.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  }

  /** What the servers told, the first one first. */
  events(): ServerEvent[] {
    return this.#lines().filter(({ type }) => type !== "packet") as ServerEvent[];
  }

  /** How many events of this type there were about a MAC. */
  count(type: ServerEvent["type"], mac: string): number {
    return this.events().filter(
      (event) =>
        event.type === type &&
        (("lease" in event && event.lease?.mac === mac) || ("mac" in event && event.mac === mac)),
    ).length;
  }

  heard(): Heard[] {
    const lines = this.#lines().filter(({ type }) => type === "packet") as unknown as {
      readonly hex: string;
    }[];
    return lines.flatMap(({ hex }) => {
      const decoded = decodePacket(Buffer.from(hex, "hex"));
      if (!decoded.ok) return [];
      const { packet } = decoded;
      return [{ mac: formatMac(packet.chaddr), type: packet.options.get(53)?.[0] ?? 0, packet, hex }];
    });
  }

  async leases(): Promise<string[]> {
    const entries: { ip: string; mac: string }[] = JSON.parse(
      await readFile(join(this.directory, "leases.json"), "utf8"),
    );
    return entries.map(({ ip, mac }) => `${ip} ${mac}`);
  }

  async routes(): Promise<string[]> {
    const lines = (await this.ip("route", "show", "dev", "cni0")).split("\n");
    return lines.map((line) => line.split(" ")[0] ?? "").filter((to) => /^10\.99\.0\.\d+$/.test(to));
  }
}
