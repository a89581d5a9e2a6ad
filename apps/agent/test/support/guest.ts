import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { DisposeStack } from "@cocoon-net/core";
import { finish, Running, until } from "./command.ts";
import { Namespace } from "./namespace.ts";

const udhcpcScript = `#!/bin/sh
case "$1" in
  deconfig) ip address flush dev "$interface"; ip link set "$interface" up ;;
  bound | renew) ip address replace "$ip/$mask" dev "$interface"; ip route replace default via "$router" ;;
esac
echo "$1 $ip" >> "$EVENTS"
`;

const dhclientScript = `#!/bin/sh
[ -z "$new_ip_address" ] || ip address replace "$new_ip_address/24" dev "$interface"
echo "$reason $new_ip_address" >> "$EVENTS"
`;

let ports = 0;

/** A VM: a namespace behind a port of the node's bridge, with a real DHCP client. */
export class Guest implements AsyncDisposable {
  readonly mac: string;
  readonly #namespace: Namespace;
  readonly #directory: string;
  #client: Running | undefined;

  private constructor(namespace: Namespace, directory: string, mac: string) {
    this.#namespace = namespace;
    this.#directory = directory;
    this.mac = mac;
  }

  static async plugIn(node: Namespace, directory: string): Promise<Guest> {
    await using parts = new DisposeStack();
    const namespace = parts.use(await Namespace.create());
    const number = ++ports;
    const mac = `52:54:00:00:00:${number.toString(16).padStart(2, "0")}`;
    const port = `tap${number}`;
    const peer = ["peer", "name", "eth0", "address", mac, "netns", namespace.name];
    await node.ip("link", "add", port, "type", "veth", ...peer);
    await node.ip("link", "set", port, "master", "cni0", "up");
    await namespace.ip("link", "set", "eth0", "up");
    const guest = new Guest(namespace, join(directory, namespace.name), mac);
    await writeFile(`${guest.#directory}.udhcpc`, udhcpcScript, { mode: 0o755 });
    await writeFile(`${guest.#directory}.dhclient`, dhclientScript, { mode: 0o755 });
    await writeFile(guest.#events, "");
    parts.move();
    return guest;
  }

  get #events(): string {
    return `${this.#directory}.events`;
  }

  get #env(): NodeJS.ProcessEnv {
    return { ...process.env, EVENTS: this.#events };
  }

  /** Starts udhcpc, which stays. It sends again every second, or as told. @returns the address it gets */
  async boot({ retransmitMs = 1_000 }: { readonly retransmitMs?: number } = {}): Promise<string> {
    const seconds = `${retransmitMs / 1_000}`;
    const options = ["-t", "20", "-T", seconds, "-A", "1", "-s", `${this.#directory}.udhcpc`];
    this.#client = new Running(
      `udhcpc of ${this.mac}`,
      [...this.#namespace.enter, "udhcpc", "-f", "-i", "eth0", ...options],
      this.#env,
    );
    return this.#next("bound", 0);
  }

  /** How often udhcpc has sent the same message again. */
  get retransmits(): number {
    const sent = this.#client?.output.matchAll(/^udhcpc: (?:broadcasting|sending) (discover|select|renew)/gm);
    const kinds = [...(sent ?? [])].map(([, kind]) => kind);
    return kinds.filter((kind, index) => kind === kinds[index - 1]).length;
  }

  /** Asks udhcpc to renew. @returns the address it has then */
  async renew(): Promise<string> {
    const seen = (await this.events()).length;
    this.#client?.signal("SIGUSR1");
    return this.#next("renew", seen);
  }

  /** Asks udhcpc to renew; resolves when it was told to leave. */
  async isToldToLeave(): Promise<void> {
    const seen = (await this.events()).length;
    this.#client?.signal("SIGUSR1");
    await this.#next("nak", seen);
  }

  /** Boots so many more guests behind the same port, for at most so many seconds. @returns their addresses */
  async bootMany(count: number, seconds: number): Promise<string[]> {
    await this.#namespace.ip("address", "add", "192.0.2.1/32", "dev", "eth0");
    await this.#namespace.ip("route", "add", "default", "dev", "eth0");
    const program = fileURLToPath(new URL("./boot-burst.ts", import.meta.url));
    const argv = [process.execPath, "--conditions=@cocoon-net/source", program, `${count}`, `${seconds}`];
    const { code, stdout, stderr } = await finish([...this.#namespace.enter, ...argv], {
      env: process.env,
      timeoutMs: (seconds + 15) * 1_000,
    });
    if (code !== 0) throw new Error(`boot-burst: ${code}: ${stderr}`);
    return stdout.split("\n").filter((line) => line !== "");
  }

  async release(): Promise<void> {
    this.#client?.signal("SIGUSR2");
    await this.#client?.says("entering released state");
  }

  /** Uses an address that it has no lease of. */
  async squatOn(address: string): Promise<void> {
    await this.#namespace.ip("address", "replace", `${address}/24`, "dev", "eth0");
  }

  /** So many messages of a new client, one a second. @returns the address, or undefined when nothing came */
  async tryFor(messages = 1): Promise<string | undefined> {
    const options = ["-n", "-q", "-t", `${messages}`, "-T", "1", "-s", `${this.#directory}.udhcpc`];
    const { code } = await finish([...this.#namespace.enter, "udhcpc", "-f", "-i", "eth0", ...options], {
      env: this.#env,
    });
    return code === 0 ? (await this.events()).at(-1)?.split(" ")[1] : undefined;
  }

  /** One run of dhclient. @returns what it says it reached, and the address */
  async dhclient(): Promise<string> {
    const seen = (await this.events()).length;
    const files = [
      "-lf",
      `${this.#directory}.dhleases`,
      "-pf",
      `${this.#directory}.dhpid`,
      "-cf",
      "/dev/null",
    ];
    await using client = new Running(
      `dhclient of ${this.mac}`,
      [
        ...[...this.#namespace.enter, "dhclient", "-4", "-d", "-1"],
        ...["-sf", `${this.#directory}.dhclient`, "-e", `EVENTS=${this.#events}`, ...files, "eth0"],
      ],
      this.#env,
    );
    const reached = await until(`dhclient of ${this.mac} to get an address`, async () => {
      if (client.ended !== undefined) throw new Error(`${client.ended}: ${client.output}`);
      return (await this.events()).slice(seen).find((line) => /^(BOUND|REBOOT) \S/.test(line));
    });
    // It calls the script first.
    await until("dhclient to write its lease down", async () =>
      (await readFile(`${this.#directory}.dhleases`, "utf8")).includes(reached.split(" ")[1] ?? ""),
    );
    return reached;
  }

  /** What the client's script was called for, with the address. */
  async events(): Promise<string[]> {
    return (await readFile(this.#events, "utf8")).split("\n").filter((line) => line !== "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client?.[Symbol.asyncDispose]();
    await this.#namespace[Symbol.asyncDispose]();
  }

  async #next(event: string, seen: number): Promise<string> {
    return until(`${this.mac} to see "${event}"`, async () => {
      const line = (await this.events()).slice(seen).find((item) => item.startsWith(`${event} `));
      return line?.slice(event.length + 1);
    }).catch((error: unknown) => {
      throw new Error(`${String(error)}; udhcpc said: ${this.#client?.output}`);
    });
  }
}
