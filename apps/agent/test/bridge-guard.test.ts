import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { DisposeStack } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { succeed, until } from "./support/command.ts";
import { Namespace } from "./support/namespace.ts";

const programOf = (name: string): string => fileURLToPath(new URL(`./support/${name}.ts`, import.meta.url));
const node = [process.execPath, "--conditions=@cocoon-net/source"];

interface Told {
  readonly type: string;
  readonly ip?: string;
  readonly mac?: string;
  readonly lease?: { readonly ip: string; readonly mac: string };
  readonly pool?: { readonly offered: number; readonly leased: number; readonly free: number };
  readonly dropped?: Readonly<Record<string, number>>;
}

/** A node whose bridge has isolated ports only, as portIsolation makes them, with the guarded server on it. */
class GuardedNode implements AsyncDisposable {
  readonly #parts: DisposeStack;
  readonly #host: Namespace;
  readonly directory: string;
  readonly #server: ChildProcess;
  #output = "";
  #ports = 0;

  private constructor(parts: DisposeStack, host: Namespace, directory: string) {
    this.#parts = parts;
    this.#host = host;
    this.directory = directory;
    const argv = [...host.enter, ...node, programOf("guarded-server"), directory];
    this.#server = spawn("env", argv, { stdio: ["ignore", "pipe", "inherit"] });
    this.#server.stdout?.on("data", (data) => {
      this.#output += data;
    });
  }

  static async start(): Promise<GuardedNode> {
    await using parts = new DisposeStack();
    const directory = await mkdtemp(join(tmpdir(), "cocoon-guard-"));
    parts.use({ [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) });
    const host = parts.use(await Namespace.create());
    await host.ip("link", "add", "cni0", "address", "02:00:00:00:fd:01", "type", "bridge");
    await host.ip("address", "add", "10.98.0.1/24", "dev", "cni0");
    await host.ip("link", "set", "cni0", "up");
    const guarded = new GuardedNode(parts.move(), host, directory);
    await guarded.wait("the server", ({ type }) => type === "ready");
    return guarded;
  }

  async guest(mac: string): Promise<Namespace> {
    const guest = this.#parts.use(await Namespace.create());
    const port = `p${++this.#ports}`;
    const peer = ["peer", "name", "eth0", "address", mac, "netns", guest.name];
    await this.#host.ip("link", "add", port, "type", "veth", ...peer);
    await this.#host.ip("link", "set", port, "master", "cni0", "up");
    await this.#host.ip("link", "set", port, "type", "bridge_slave", "isolated", "on");
    await guest.ip("link", "set", "eth0", "up");
    return guest;
  }

  told(): Told[] {
    const whole = this.#output.slice(0, this.#output.lastIndexOf("\n") + 1);
    return whole
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  }

  stats(): Told {
    return this.told().findLast(({ type }) => type === "stats") ?? { type: "stats" };
  }

  async wait(what: string, seen: (told: Told) => boolean): Promise<void> {
    await until(what, async () => this.told().some(seen));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.kill("SIGKILL");
    await this.#parts[Symbol.asyncDispose]();
  }
}

/** Runs udhcpc until it has an address. @returns the address */
async function udhcpc(guarded: GuardedNode, guest: Namespace, ...more: readonly string[]): Promise<string> {
  const script = join(guarded.directory, "up.sh");
  const text =
    '#!/bin/sh\n[ "$1" = bound ] && ip address replace $ip/24 dev eth0 && echo "bound $ip"\nexit 0\n';
  await writeFile(script, text, { mode: 0o755 });
  const output = await guest.exec(
    "udhcpc",
    "-f",
    "-q",
    "-n",
    "-i",
    "eth0",
    "-t",
    "30",
    "-T",
    "1",
    "-s",
    script,
    ...more,
  );
  return /bound (.*)/.exec(output)?.[1] ?? output;
}

test("a guest that floods, with made-up MACs too, keeps no other guest from its address", {
  timeout: 180_000,
}, async () => {
  await using guarded = await GuardedNode.start();
  const flooder = await guarded.guest("52:54:00:00:00:66");
  const flood = spawn("env", [...flooder.enter, ...node, programOf("flooder"), "4000", "40"], {
    stdio: "inherit",
  });
  const over = once(flood, "exit");
  await until("the flood", async () => (guarded.stats().dropped?.["flood-port"] ?? 0) > 0);
  const one = await guarded.guest("52:54:00:00:00:01");
  expect(await udhcpc(guarded, one)).toMatch(/^10\.98\.0\.\d+$/);
  await over;
  const two = await guarded.guest("52:54:00:00:00:02");
  expect(await udhcpc(guarded, two)).toMatch(/^10\.98\.0\.\d+$/);
  await until("the count", async () => guarded.stats().pool?.leased === 2);
  const { pool, dropped } = guarded.stats();
  // Four behind its port, four whose MAC the bridge has never seen.
  expect(pool?.offered).toBeLessThanOrEqual(8);
  expect(pool?.free).toBeGreaterThanOrEqual(6);
  expect(dropped?.["port-limit"]).toBeGreaterThanOrEqual(30);
});

test("an address that a guest uses without a lease is found by ARP and put aside", {
  timeout: 180_000,
}, async () => {
  await using guarded = await GuardedNode.start();
  const one = await guarded.guest("52:54:00:00:00:01");
  const address = await udhcpc(guarded, one);
  const again = ["-f", "-R", "-i", "eth0", "-s", join(guarded.directory, "up.sh")];
  const client = spawn("env", [...one.enter, "udhcpc", ...again], { stdio: ["ignore", "pipe", "ignore"] });
  await once(client.stdout, "data"); // "bound"
  client.kill(); // -R: its end is a RELEASE
  await guarded.wait("the release", ({ type, lease }) => type === "released" && lease?.ip === address);
  // It goes on using what it gave back.
  await one.ip("address", "replace", `${address}/24`, "dev", "eth0");
  const two = await guarded.guest("52:54:00:00:00:02");
  const other = await udhcpc(guarded, two, "-r", address);
  expect(other).not.toBe(address);
  await guarded.wait(
    "the conflict",
    ({ type, ip, mac }) => type === "in-use" && ip === address && mac === "52:54:00:00:00:01",
  );
  expect(await succeed([...two.enter, "ping", "-c", "1", "-W", "5", "10.98.0.1"])).toContain("1 received");
});
