import { spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ServerEvent } from "@cocoon-net/dhcp";
import { describe, expect, it } from "vitest";
import { type Client, Dhclient, Dhcpcd, Networkd, ReleasingUdhcpc, Udhcpc } from "./real/clients.ts";
import { Lan, need, run } from "./real/lan.ts";
import { until } from "./scratch-directory.ts";

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
  const args = ["-f", "-n", "-q", "-i", "eth0", "-t", "30", "-T", "1", "-s", script, ...more];
  const { stdout } = await run("ip", ["netns", "exec", guest, "udhcpc", ...args], { timeout: 60_000 });
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
    await until(() => log.includes("bound"), "a lease of udhcpc", 40_000);
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
      40_000,
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

describe("real clients", { timeout: 150_000 }, () => {
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
    // They ask again and again: the loser until we have seen enough.
    const clients = guests.map((guest) => new Udhcpc(guest, lan.directory));
    await Promise.all(clients.map((client) => client.start()));
    const got = (): string[] =>
      clients.map((client) => /lease of (\S+) obtained/.exec(client.log())?.[1] ?? "none").toSorted();
    await until(() => got().filter((address) => address !== "none").length >= 3, "three leases", 40_000);
    await until(() => lan.output.includes("pool-empty"), "a client that gets none", 40_000);
    expect(got()).toEqual(["10.99.0.2", "10.99.0.3", "10.99.0.4", "none"]);
    await until(async () => (await lan.leases()).length === 3, "three leases in leases.json");
  });

  it("get, renew, rebind, reboot and release, over a restart of the server: dhclient, dhcpcd, udhcpc, systemd-networkd", {
    timeout: 300_000,
  }, async () => {
    const lan = await Lan.make();
    const [one, two, three, four] = macs;
    const guest = (index: number): Promise<string> => lan.guest(index, macs[index] ?? "");
    const clients = new Map<string, Client>([
      [one, new Dhclient(await guest(0), lan.directory)],
      [two, new Dhcpcd(await guest(1), lan.directory)],
      [three, new ReleasingUdhcpc(await guest(2), lan.directory)],
      [four, new Networkd(await guest(3), lan.directory)],
    ]);
    const settings = { poolSize: 9, leaseMs: 24_000, renewMs: 3000, rebindMs: 6000 };
    await lan.start(settings);
    const all = (what: string, of: readonly string[], seen: (mac: string) => boolean): Promise<void> =>
      until(() => of.every(seen), what, 60_000).catch((cause: unknown) => {
        const missing = of.filter((mac) => !seen(mac)).map((mac) => clients.get(mac)?.log());
        throw new Error(`no ${what}: ${missing.join("\n")}\nserver: ${lan.output.slice(-3000)}`, { cause });
      });
    const renewed = (mac: string): number => lan.count("renewed", mac);

    await Promise.all([...clients.values()].map((client) => client.start()));
    await all("lease", macs, (mac) => lan.count("granted", mac) === 1);
    const leases = new Map((await settled(lan, 4)).map((line) => [line.split(" ")[1], line]));
    await lan.kill();
    await lan.start(settings);
    await all("renewal", [one, two, four], (mac) => renewed(mac) > 0);

    // Unicast goes nowhere: what renews now is a broadcast. udhcpc always does that when a lease is short.
    const before = new Map<string, number>(macs.map((mac) => [mac, renewed(mac)]));
    const drop = ["INPUT", "-d", "10.99.0.1", "-p", "udp", "--dport", "67", "-j", "DROP"];
    await run("ip", ["netns", "exec", lan.host, "iptables", "-w", "10", "-A", ...drop]);
    await all("rebinding", macs, (mac) => renewed(mac) > (before.get(mac) ?? 0));
    await run("ip", ["netns", "exec", lan.host, "iptables", "-w", "10", "-D", ...drop]);

    const rebooting: readonly string[] = [one, two];
    for (const mac of rebooting) await clients.get(mac)?.kill();
    const heard = lan.heard().length;
    const asked = new Map(rebooting.map((mac) => [mac, renewed(mac)]));
    for (const mac of rebooting) await clients.get(mac)?.start();
    // INIT-REBOOT: option 50, neither option 54 nor ciaddr.
    await all("INIT-REBOOT", rebooting, (mac) =>
      lan
        .heard()
        .slice(heard)
        .some(
          ({ mac: from, type, packet }) =>
            from === mac &&
            type === 3 &&
            packet.ciaddr === 0 &&
            packet.options.has(50) &&
            !packet.options.has(54),
        ),
    );
    await all("answer to it", rebooting, (mac) => renewed(mac) > (asked.get(mac) ?? 0));
    for (const line of await settled(lan, 4)) expect(leases.get(line.split(" ")[1])).toBe(line);

    await Promise.all([...clients.values()].map((client) => client.release()));
    await all("release", macs, (mac) => lan.count("released", mac) === 1);
    await settled(lan, 0);
    await until(async () => (await lan.routes()).length === 0, "the removal of all routes");
    await capture(lan, clients);
  });

  it("decline an address that somebody uses: it goes aside, and they get another one", {
    timeout: 150_000,
  }, async () => {
    const lan = await Lan.make();
    const [taken, one, two] = macs;
    const squatter = await lan.guest(0, taken);
    const used = ["10.99.0.2", "10.99.0.3"];
    for (const ip of used) await run("ip", ["-n", squatter, "addr", "add", `${ip}/24`, "dev", "eth0"]);
    const clients = new Map<string, Client>([
      [one, new Udhcpc(await lan.guest(1, one), lan.directory, "-a -A 600")],
      [two, new Dhcpcd(await lan.guest(2, two), lan.directory, "")],
    ]);
    await lan.join(); // the clients have to hear the one that uses the address
    await lan.start({ poolSize: 9 });
    // One after the other: each is offered one of the used addresses first. udhcpc does not ask again soon (-A).
    for (const [mac, client] of clients) {
      await client.start();
      await until(() => lan.count("declined", mac) > 0, "DECLINE", 40_000).catch((cause: unknown) => {
        throw new Error(`no DECLINE of ${client.log()}`, { cause });
      });
      if (mac === one) await client.kill();
    }
    expect(lan.events().flatMap((event) => (event.type === "declined" ? [event.ip] : []))).toEqual(used);
    const isOther = (event: ServerEvent): boolean =>
      event.type === "granted" && event.lease.ip === "10.99.0.4";
    await until(() => lan.events().some(isOther), "another address", 40_000);
    await capture(lan, clients);
  });
});

/** The entries of `leases.json` once there are so many. */
async function settled(lan: Lan, count: number): Promise<string[]> {
  await until(async () => (await lan.leases()).length === count, `${count} leases in leases.json`);
  return (await lan.leases()).toSorted();
}

/** Adds what the clients sent to the file that `CAPTURE` names: the seeds of the fuzzer were taken so. */
async function capture(lan: Lan, clients: ReadonlyMap<string, Client>): Promise<void> {
  const path = process.env.CAPTURE;
  if (path === undefined) return;
  const lines = lan.heard().map(({ mac, hex }) => `${clients.get(mac)?.name} ${hex}\n`);
  await writeFile(path, lines.join(""), { flag: "a" });
}
