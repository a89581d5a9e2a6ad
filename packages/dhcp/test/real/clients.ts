import { type ChildProcessByStdio, spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { onTestFinished } from "vitest";
import { until } from "../scratch-directory.ts";
import { need, run } from "./lan.ts";

/** A DHCP client that runs in a guest and keeps what it remembers over a restart. */
export interface Client {
  readonly name: string;
  /** What it wrote so far. */
  log(): string;
  start(): Promise<void>;
  /** Ends it so that it can say nothing. */
  kill(): Promise<void>;
  /** Has it give its address back and end. */
  release(): Promise<void>;
}

abstract class Daemon implements Client {
  abstract readonly name: string;
  protected readonly guest: string;
  protected readonly directory: string;
  #process: ChildProcessByStdio<null, Readable, Readable> | undefined;
  #log = "";

  constructor(guest: string, directory: string) {
    this.guest = guest;
    this.directory = join(directory, guest);
  }

  log(): string {
    return `${this.name}: ${this.#log}`;
  }

  abstract start(): Promise<void>;
  abstract release(): Promise<void>;

  /** Its helper processes too: dhcpcd's would keep a new one from starting. */
  async kill(): Promise<void> {
    await until(
      async () => {
        const { stdout } = await run("ip", ["netns", "pids", this.guest]);
        const pids = stdout.split("\n").filter(Boolean);
        for (const pid of pids) {
          try {
            process.kill(Number(pid), "SIGKILL");
          } catch {
            // It has ended meanwhile.
          }
        }
        return pids.length === 0;
      },
      `the end of ${this.name}`,
      20_000,
    );
  }

  protected async script(name: string, text: string): Promise<string> {
    await mkdir(this.directory, { recursive: true });
    const path = join(this.directory, name);
    await writeFile(path, `#!/bin/sh\n${text}\nexit 0\n`, { mode: 0o755 });
    return path;
  }

  /** `ip netns exec` gives each its own mounts, so `/run` and the like can be replaced. */
  protected spawn(command: string): void {
    const client = spawn("ip", ["netns", "exec", this.guest, "sh", "-c", command], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [client.stdout, client.stderr]) {
      stream.on("data", (data) => {
        this.#log += data;
      });
    }
    this.#process = client;
    onTestFinished(() => this.kill());
  }

  /**
   * Sends a signal that ends it, every two seconds until it has: dhcpcd loses one that comes while it takes an address.
   * After 20 s it is killed; what counts is what the server has heard.
   */
  protected async signal(signal: NodeJS.Signals): Promise<void> {
    const client = this.#process;
    let sendAt = 0;
    const ended = (): boolean => {
      if (client === undefined || client.exitCode !== null || client.signalCode !== null) return true;
      if (performance.now() >= sendAt) {
        client.kill(signal);
        sendAt = performance.now() + 2_000;
      }
      return false;
    };
    await until(ended, `the end of ${this.name}`, 20_000).catch(() => this.kill());
  }

  protected async inGuest(...command: string[]): Promise<void> {
    await run("ip", ["netns", "exec", this.guest, ...command], { timeout: 20_000 });
  }
}

export class Dhclient extends Daemon {
  readonly name = "dhclient";

  #args(script: string): string {
    const file = (name: string): string => join(this.directory, name);
    return `dhclient -4 -sf ${script} -lf ${file("leases")} -pf ${file("pid")} -cf /dev/null`;
  }

  async start(): Promise<void> {
    await need("dhclient", "apt-get install isc-dhcp-client");
    this.spawn(`exec ${this.#args(await this.#script())} -d eth0`);
  }

  #script(): Promise<string> {
    return this.script("up.sh", '[ -n "$new_ip_address" ] && ip addr replace $new_ip_address/24 dev eth0');
  }

  async release(): Promise<void> {
    await this.inGuest("sh", "-c", `${this.#args(await this.#script())} -r eth0`);
  }
}

export class Udhcpc extends Daemon {
  readonly name = "udhcpc";
  /** More arguments. */
  readonly more: string;

  constructor(guest: string, directory: string, more = "") {
    super(guest, directory);
    this.more = more;
  }

  async start(): Promise<void> {
    await need("udhcpc", "apt-get install udhcpc");
    const script = await this.script("up.sh", '[ -n "$ip" ] && ip addr replace $ip/24 dev eth0');
    this.spawn(`exec udhcpc -f -i eth0 -t 10 -T 1 -A 1 -s ${script} ${this.more}`);
  }

  /** It answers SIGUSR2 by a RELEASE, and SIGTERM by its end. */
  async release(): Promise<void> {
    await this.signal("SIGTERM");
  }
}

/** With `-R` a udhcpc that ends releases. */
export class ReleasingUdhcpc extends Udhcpc {
  constructor(guest: string, directory: string) {
    super(guest, directory, "-R");
  }
}

export class Dhcpcd extends Daemon {
  readonly name = "dhcpcd";
  readonly #more: string;

  constructor(guest: string, directory: string, more = "--noarp") {
    super(guest, directory);
    this.#more = more;
  }

  async start(): Promise<void> {
    await need("dhcpcd", "apt-get install dhcpcd-base");
    const [run, lib] = [join(this.directory, "run"), join(this.directory, "lib")];
    await mkdir(run, { recursive: true });
    await mkdir(lib, { recursive: true });
    const mounts = `mkdir -p /var/lib/dhcpcd; mount --bind ${run} /run; mount --bind ${lib} /var/lib/dhcpcd`;
    const config = join(this.directory, "conf");
    await writeFile(config, "release\nclientid\n");
    this.spawn(`${mounts}; exec dhcpcd -4 -B -f ${config} -c /bin/true ${this.#more} eth0`);
  }

  /** As configured, its end is a RELEASE. */
  async release(): Promise<void> {
    await this.signal("SIGTERM");
  }
}

export class Networkd extends Daemon {
  readonly name = "systemd-networkd";

  async start(): Promise<void> {
    const program = "/lib/systemd/systemd-networkd";
    await need(program, "apt-get install systemd");
    const run = join(this.directory, "run");
    await mkdir(join(run, "systemd/network"), { recursive: true });
    await mkdir(join(run, "systemd/netif/links"), { recursive: true });
    await mkdir(join(run, "systemd/netif/leases"), { recursive: true });
    const network = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n";
    await writeFile(join(run, "systemd/network/10-eth0.network"), network);
    // A read-only /sys tells it that no udev will announce the links. It drops root.
    const mounts = `chmod -R a+rwX ${run}; mount --bind ${run} /run; mount -o remount,bind,ro /sys`;
    this.spawn(`${mounts}; exec ${program}`);
  }

  /** Its end is a RELEASE (SendRelease=, default yes). */
  async release(): Promise<void> {
    await this.signal("SIGTERM");
  }
}
