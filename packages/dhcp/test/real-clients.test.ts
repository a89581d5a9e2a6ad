import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { scratchDirectory, until } from "./scratch-directory.ts";

const run = promisify(execFile);
const program = fileURLToPath(new URL("./namespace-server.ts", import.meta.url));

async function need(name: string, how: string): Promise<void> {
  await run("sh", ["-c", `command -v ${name}`]).catch(() => {
    throw new Error(`${name} is missing: ${how}`);
  });
}

/** A host namespace with a bridge, and guests on it. Everything goes away with the test. */
class Lan {
  readonly #id = randomBytes(3).toString("hex");
  readonly host = `dh${this.#id}`;
  readonly directory: string;
  server: ChildProcess | undefined;
  output = "";

  constructor(directory: string) {
    this.directory = directory;
  }

  static async make(): Promise<Lan> {
    await need("ip", "apt-get install iproute2");
    const lan = new Lan(await scratchDirectory());
    await lan.#namespace(lan.host);
    await lan.ip("link", "add", "cni0", "type", "bridge");
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
    await run("ip", ["-n", name, "link", "set", "lo", "up"]);
    await run("ip", ["-n", name, "link", "set", "eth0", "up"]);
    return name;
  }

  async start(): Promise<void> {
    const node = [process.execPath, "--conditions=@cocoon-net/source", program, this.directory, "cni0"];
    const server = spawn("ip", ["netns", "exec", this.host, ...node], { stdio: ["ignore", "pipe", "pipe"] });
    this.server = server;
    this.output = "";
    for (const stream of [server.stdout, server.stderr]) {
      stream.on("data", (data) => {
        this.output += data;
      });
    }
    onTestFinished(() => this.kill());
    await until(() => this.output.includes("ready"), "the server", 20_000).catch((error: unknown) => {
      throw new Error(`the server did not start: ${this.output}`, { cause: error });
    });
  }

  /** Like a power cut for the process: nothing is flushed. */
  async kill(): Promise<void> {
    const { server } = this;
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const gone = new Promise((resolve) => server.once("exit", resolve));
    server.kill("SIGKILL");
    await gone;
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

/** Runs udhcpc until it has a lease. @returns the address it got */
async function udhcpc(directory: string, guest: string, ...more: string[]): Promise<string> {
  const script = join(directory, "udhcpc.sh");
  await writeFile(
    script,
    '#!/bin/sh\n[ "$1" = bound ] && echo "bound $ip $subnet $router $dns $lease"\nexit 0\n',
    {
      mode: 0o755,
    },
  );
  const args = ["-f", "-n", "-q", "-i", "eth0", "-t", "5", "-T", "1", "-s", script, ...more];
  const { stdout } = await run("ip", ["netns", "exec", guest, "udhcpc", ...args], { timeout: 20_000 });
  return /bound (.*)/.exec(stdout)?.[1] ?? stdout;
}

/** Runs udhcpc until it has taken its address, then has it release that (SIGUSR2). */
async function udhcpcReleases(directory: string, guest: string): Promise<void> {
  const script = join(directory, "udhcpc-up.sh");
  const text =
    '#!/bin/sh\n[ "$1" = bound ] && ip addr add $ip/24 dev $interface && echo "bound $ip"\nexit 0\n';
  await writeFile(script, text, { mode: 0o755 });
  const client = spawn("ip", ["netns", "exec", guest, "udhcpc", "-f", "-i", "eth0", "-s", script], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  for (const stream of [client.stdout, client.stderr]) {
    stream.on("data", (data) => {
      log += data;
    });
  }
  const gone = new Promise((resolve) => client.once("exit", resolve));
  try {
    await until(() => log.includes("bound"), "a lease of udhcpc", 20_000);
    client.kill("SIGUSR2");
    await until(() => log.includes("entering released state"), "the release of udhcpc");
  } catch (cause) {
    throw new Error(`udhcpc: ${log}`, { cause });
  } finally {
    client.kill("SIGKILL");
    await gone;
  }
}

/** Runs dhclient once. @returns the address it got */
async function dhclient(directory: string, guest: string): Promise<string> {
  const script = join(directory, "dhclient.sh");
  await writeFile(
    script,
    '#!/bin/sh\n[ -n "$new_ip_address" ] && echo "$reason $new_ip_address" >> "$0.out"\nexit 0\n',
    {
      mode: 0o755,
    },
  );
  await writeFile(`${script}.out`, "");
  const leases = join(directory, `${guest}.leases`);
  const files = ["-lf", leases, "-pf", join(directory, `${guest}.pid`), "-cf", "/dev/null"];
  const client = spawn(
    "ip",
    ["netns", "exec", guest, "dhclient", "-4", "-d", "-1", "-sf", script, ...files, "eth0"],
    {
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  let log = "";
  client.stderr.on("data", (data) => {
    log += data;
  });
  const gone = new Promise((resolve) => client.once("exit", resolve));
  try {
    let out = "";
    await until(
      async () => {
        out = await readFile(`${script}.out`, "utf8");
        const address = out.trim().split(" ")[1];
        // Killed before it has written its lease file it would remember nothing.
        const file = await readFile(leases, "utf8").catch(() => "");
        return address !== undefined && file.includes(`fixed-address ${address};`);
      },
      "a lease of dhclient",
      20_000,
    ).catch((cause: unknown) => {
      throw new Error(`dhclient got nothing: ${log}`, { cause });
    });
    return out.trim();
  } finally {
    client.kill("SIGKILL");
    await gone;
  }
}

const macs = ["52:54:00:99:00:01", "52:54:00:99:00:02", "52:54:00:99:00:03", "52:54:00:99:00:04"] as const;

describe("real clients", () => {
  it("udhcpc gets an address, keeps it over kill -9 of the server, and gives it back", async () => {
    await need("udhcpc", "apt-get install udhcpc");
    const lan = await Lan.make();
    const guest = await lan.guest(1, macs[0]);
    await lan.start();
    expect(await udhcpc(lan.directory, guest)).toBe("10.99.0.2 255.255.255.0 10.99.0.1 8.8.8.8 86400");
    await until(
      async () => (await lan.leases()).includes(`10.99.0.2 ${macs[0]}`),
      "the lease in leases.json",
    );
    expect(await lan.routes()).toEqual(["10.99.0.2"]);

    await lan.kill();
    await lan.ip("route", "del", "10.99.0.2/32", "dev", "cni0");
    await lan.start();
    expect(await lan.routes()).toEqual(["10.99.0.2"]);
    expect(await udhcpc(lan.directory, guest)).toContain("10.99.0.2 ");

    expect(await udhcpc(lan.directory, guest, "-B")).toContain("10.99.0.2 ");

    await udhcpcReleases(lan.directory, guest);
    await until(async () => (await lan.leases()).length === 0, "the release in leases.json");
    await until(async () => (await lan.routes()).length === 0, "the route's removal");
  });

  it("dhclient gets an address and remembers it (INIT-REBOOT)", async () => {
    await need("dhclient", "apt-get install isc-dhcp-client");
    const lan = await Lan.make();
    const guest = await lan.guest(1, macs[0]);
    await lan.start();
    expect(await dhclient(lan.directory, guest)).toBe("BOUND 10.99.0.2");
    expect(await dhclient(lan.directory, guest)).toBe("REBOOT 10.99.0.2");
  });

  it("that race for the last addresses each get another one, or none", async () => {
    await need("udhcpc", "apt-get install udhcpc");
    const lan = await Lan.make();
    const guests = await Promise.all(macs.map((mac, index) => lan.guest(index, mac)));
    await lan.start();
    const got = await Promise.all(guests.map((guest) => udhcpc(lan.directory, guest).catch(() => "none")));
    const addresses = got.map((line) => line.split(" ")[0]).toSorted();
    expect(addresses).toEqual(["10.99.0.2", "10.99.0.3", "10.99.0.4", "none"]);
    await until(async () => (await lan.leases()).length === 3, "three leases in leases.json");
    expect(lan.output).toContain("pool-empty");
  });
});
