import { execFile, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import type { Endpoint } from "./batch-socket.ts";

const run = promisify(execFile);

/** What all servers get: a /16 with room for 64,000 guests, and the load generator far from their addresses. */
export const subnet = "10.77.0.0/16";
export const gateway = "10.77.0.1";
/** Within the subnet, beyond the first 64,000 addresses. */
export const clientAddress = "10.77.254.1";
export const bridge = "cni0";
export const clientDevice = "eth0";
export const serverEndpoint: Endpoint = { address: gateway, port: 67 };
export const relayEndpoint: Endpoint = { address: clientAddress, port: 67 };
/** What all servers give; it is the agent's own. */
export const leaseSeconds = 86_400;

const receiveBuffer = "/proc/sys/net/core/rmem_default";
const signals: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM"];
const generousBytes = 8 * 2 ** 20;

/** Two network namespaces on one cable: a node with a bridge, and the load generator behind one of its ports. */
export class Lan implements Disposable {
  readonly node: string;
  readonly guests: string;
  readonly #earlierReceiveBuffer: string;
  /** Stays until the process exits: a terminal and `npm` send the signal once each, and the second must not end the clearing. */
  readonly #onSignal = (): void => {
    this.#clear();
    process.exit(130);
  };

  private constructor(suffix: string) {
    this.node = `bench-n-${suffix}`;
    this.guests = `bench-g-${suffix}`;
    this.#earlierReceiveBuffer = readFileSync(receiveBuffer, "utf8");
    for (const signal of signals) process.on(signal, this.#onSignal);
  }

  static async create(): Promise<Lan> {
    const lan = new Lan(randomBytes(3).toString("hex"));
    try {
      for (const name of [lan.node, lan.guests]) {
        await run("ip", ["netns", "add", name]);
        await run("ip", ["-n", name, "link", "set", "lo", "up"]);
      }
      const inNode = (...args: string[]) => run("ip", ["-n", lan.node, ...args]);
      const inGuests = (...args: string[]) => run("ip", ["-n", lan.guests, ...args]);
      await inNode("link", "add", bridge, "type", "bridge");
      await inNode("address", "add", `${gateway}/16`, "dev", bridge);
      await inNode("link", "set", bridge, "up");
      const peer = ["peer", "name", clientDevice, "netns", lan.guests];
      await inNode("link", "add", "port0", "type", "veth", ...peer);
      await inNode("link", "set", "port0", "master", bridge, "up");
      await inGuests("address", "add", `${clientAddress}/16`, "dev", clientDevice);
      await inGuests("link", "set", clientDevice, "up");
      await run("ip", ["netns", "exec", lan.guests, "ping", "-c", "1", "-W", "5", gateway]);
      // A generator that loses answers for want of a buffer would count against the server that gives most at once.
      // Sockets take this size when they are made: all the servers' and the generator's.
      writeFileSync(receiveBuffer, String(generousBytes));
      return lan;
    } catch (error) {
      lan[Symbol.dispose]();
      throw error;
    }
  }

  /** A server of an earlier run must leave nothing behind. */
  async clear(): Promise<void> {
    for (const args of [
      ["route", "flush", "dev", bridge, "proto", "boot"],
      ["neigh", "flush", "dev", bridge],
    ]) {
      await run("ip", ["-n", this.node, ...args]);
    }
  }

  /** Ends whatever still runs in the namespaces, and takes them away. */
  [Symbol.dispose](): void {
    this.#clear();
    for (const signal of signals) process.off(signal, this.#onSignal);
  }

  #clear(): void {
    writeFileSync(receiveBuffer, this.#earlierReceiveBuffer);
    for (const name of [this.node, this.guests]) {
      const pids = spawnSync("ip", ["netns", "pids", name], { encoding: "utf8" }).stdout.split("\n");
      for (const pid of pids) if (pid !== "") killQuietly(Number(pid));
      spawnSync("ip", ["netns", "del", name]);
    }
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}
