import { readdir, readFile, readlink } from "node:fs/promises";
import { basename } from "node:path";

/** Who has bound a UDP port in this network namespace: `dnsmasq (pid 812)`, one per process. */
export async function ownersOfUdpPort(port: number): Promise<string[]> {
  const inodes = new Set<string>();
  for (const table of ["/proc/net/udp", "/proc/net/udp6"]) {
    for (const line of (await readOrEmpty(table)).split("\n").slice(1)) {
      // "sl local_address rem_address st queues timer retransmits uid timeout inode …", the port in hexadecimal
      const fields = line.trim().split(/\s+/);
      const localPort = Number.parseInt(fields[1]?.split(":")[1] ?? "", 16);
      if (localPort === port && fields[9] !== undefined) inodes.add(`socket:[${fields[9]}]`);
    }
  }
  if (inodes.size === 0) return [];
  const owners: string[] = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    if (!(await hasOpen(pid, inodes))) continue;
    owners.push(`${(await nameOf(pid)) || "a process"} (pid ${pid})`);
  }
  return owners;
}

/** What a person calls it: a script by its own name, as its interpreter's says nothing. */
async function nameOf(pid: string): Promise<string> {
  const [program = "", ...words] = (await readOrEmpty(`/proc/${pid}/cmdline`)).split("\0");
  const script = /^(?:node|python[\d.]*|perl|ruby|(?:ba|da)?sh)$/.test(basename(program))
    ? words.find((word) => word.startsWith("/") || word.startsWith("."))
    : undefined;
  return script === undefined ? (await readOrEmpty(`/proc/${pid}/comm`)).trim() : basename(script);
}

/** Processes come and go while they are looked at, and may belong to somebody else. */
async function hasOpen(pid: string, inodes: ReadonlySet<string>): Promise<boolean> {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
  for (const descriptor of descriptors) {
    const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => "");
    if (inodes.has(target)) return true;
  }
  return false;
}

async function readOrEmpty(path: string): Promise<string> {
  return await readFile(path, "utf8").catch(() => "");
}
