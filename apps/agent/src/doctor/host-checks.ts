import { open, rm, statfs } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { describeError } from "@cocoon-net/core";
import {
  hasKernelModule,
  iptablesFacts,
  isClockSynchronised,
  missingCapabilities,
  openHostNetwork,
  ownersOfUdpPort,
  readSysctl,
} from "@cocoon-net/host-linux";
import { parseListenAddress } from "../listen-address.ts";
import type { PoolFile } from "../state-directory.ts";
import { type Diagnosis, ok, problem, warning } from "./diagnosis.ts";

const bridge = "cni0";

export async function rights(): Promise<Diagnosis> {
  const missing = await missingCapabilities();
  if (missing.length === 0) return ok("rights", "network administration, raw sockets, low ports");
  const fix = "run it as root, or give the service these capabilities";
  return problem("rights", `${missing.join(", ")} missing`, fix);
}

export async function kernel(): Promise<Diagnosis> {
  if (await hasKernelModule("bridge")) return ok("kernel", "bridges");
  return problem("kernel", "no bridge module", "install the kernel's modules, then `modprobe bridge`");
}

export async function bridgeLink(pool: PoolFile | undefined, daemonRuns: boolean): Promise<Diagnosis> {
  await using network = openHostNetwork();
  const link = await network.getLink({ name: bridge });
  const fix = "the daemon sets it up when it starts";
  if (link === undefined) {
    return daemonRuns
      ? problem("bridge", `there is no ${bridge}, and the daemon runs`, "restart the daemon")
      : warning("bridge", `there is no ${bridge} yet`, fix);
  }
  if (link.kind !== "bridge") {
    return problem("bridge", `${bridge} is no bridge but ${link.kind ?? "a NIC"}`, "rename that link");
  }
  const addresses = await network.listAddresses(bridge);
  const wanted = pool && `${pool.gateway}/${pool.subnet.split("/")[1]}`;
  const found = `${bridge} is ${link.up ? "up" : "down"} with ${addresses.join(", ") || "no address"}`;
  if (!link.up || (wanted !== undefined && !addresses.includes(wanted))) {
    return warning("bridge", `${found}; ${wanted ?? "its gateway"} is to be there`, fix);
  }
  return ok("bridge", found);
}

export async function sysctls(daemonRuns: boolean): Promise<Diagnosis> {
  const wanted = { "net/ipv4/ip_forward": "1", "net/ipv4/conf/all/rp_filter": "0" };
  const wrong: string[] = [];
  for (const [path, value] of Object.entries(wanted)) {
    const found = await readSysctl(path);
    if (found !== value) wrong.push(`${path.replaceAll("/", ".")} is ${found ?? "not there"}, not ${value}`);
  }
  if (wrong.length === 0) return ok("sysctls", "forwarding on, reverse path filter off");
  return daemonRuns
    ? problem(
        "sysctls",
        wrong.join("; "),
        "something sets them anew: look in /etc/sysctl.d, restart the daemon",
      )
    : warning("sysctls", wrong.join("; "), "the daemon sets them when it starts");
}

export async function iptables(signal: AbortSignal): Promise<Diagnosis> {
  const facts = await iptablesFacts(signal);
  if (facts === undefined) {
    return warning("iptables", "not installed", "install iptables, or start the daemon with --skip-iptables");
  }
  if (!facts.mixed) return ok("iptables", facts.version);
  const fix =
    "remove the legacy rules (`iptables-legacy-save` shows them), or let everything use one of the two";
  return warning("iptables", `${facts.version}, and there are tables of the legacy backend too`, fix);
}

export async function dhcpPort(daemon: number | undefined): Promise<Diagnosis> {
  const others = (await ownersOfUdpPort(67)).filter((owner) => !owner.endsWith(`(pid ${daemon})`));
  if (others.length === 0) {
    return ok("DHCP port", daemon === undefined ? "free" : `the daemon's (pid ${daemon})`);
  }
  const fix = `stop it, keep it off ${bridge}, or follow its leases with --lease-source file:PATH`;
  return warning("DHCP port", `${others.join(", ")} has UDP port 67`, fix);
}

export async function metricsPort(address: string, daemon: number | undefined): Promise<Diagnosis> {
  const check = "metrics port";
  if (address === "") return ok(check, "off");
  if (daemon !== undefined) return ok(check, `${address}, the daemon's`);
  const { host, port } = parseListenAddress(address);
  const server = createServer();
  return await new Promise((resolve) => {
    server.once("error", (error) => {
      resolve(problem(check, `${address}: ${describeError(error)}`, "choose another with --metrics-addr"));
    });
    server.listen({ host, port, exclusive: true }, () => {
      server.close(() => resolve(ok(check, `${address} is free`)));
    });
  });
}

const enoughBytes = 100 * 2 ** 20;
const slowSyncMs = 50;

/** Every lease waits for one fdatasync here. */
export async function disk(stateDir: string): Promise<Diagnosis> {
  const check = "disk";
  const probe = join(stateDir, `.doctor-${process.pid}`);
  try {
    await using file = await open(probe, "wx", 0o600);
    await file.write("x".repeat(4_096));
    await file.datasync();
    const times: number[] = [];
    for (let round = 0; round < 5; round++) {
      const began = performance.now();
      await file.write("x".repeat(100));
      await file.datasync();
      times.push(performance.now() - began);
    }
    const median = times.sort((a, b) => a - b)[2] ?? 0;
    const { bavail, bsize } = await statfs(stateDir);
    const found = `${stateDir}: a write is durable after ${median.toFixed(1)} ms, ${formatBytes(bavail * bsize)} free`;
    if (bavail * bsize < enoughBytes)
      return warning(check, found, "make room: without it nothing new is granted");
    if (median > slowSyncMs) return warning(check, found, "guests wait that long; use a faster disk");
    return ok(check, found);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
      return warning(check, `${stateDir} is not there yet`, "init and adopt make it");
    }
    return problem(check, describeError(error), `make ${stateDir} writable`);
  } finally {
    await rm(probe, { force: true });
  }
}

export function clock(): Diagnosis {
  const synchronised = isClockSynchronised();
  if (synchronised) return ok("clock", "synchronised");
  const fix = "run an NTP client: lease times in files and in the store are by this clock";
  const found =
    synchronised === undefined ? "the kernel does not say whether it is synchronised" : "not synchronised";
  return warning("clock", found, fix);
}

function formatBytes(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(0)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
