import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { release } from "node:os";
import { promisify } from "node:util";
import { clockState } from "./libc.ts";

export { ownersOfUdpPort } from "./port-owner.ts";

/** Capabilities that the agent needs, by their bits: capabilities(7), linux/capability.h. */
const capabilityBits = { CAP_NET_BIND_SERVICE: 10n, CAP_NET_ADMIN: 12n, CAP_NET_RAW: 13n } as const;
export type Capability = keyof typeof capabilityBits;

/** Those of {@link Capability} that this process may not use. */
export async function missingCapabilities(): Promise<Capability[]> {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(await readFile("/proc/self/status", "utf8"))?.[1];
  const bits = BigInt(`0x${effective ?? "0"}`);
  return (Object.keys(capabilityBits) as Capability[]).filter(
    (name) => ((bits >> capabilityBits[name]) & 1n) === 0n,
  );
}

/** Whether the kernel has a module: built in, loaded, or there to be loaded. */
export async function hasKernelModule(name: string): Promise<boolean> {
  if (existsSync(`/sys/module/${name}`)) return true;
  const directory = `/lib/modules/${release()}`;
  for (const list of ["modules.builtin", "modules.dep"]) {
    const text = await readFile(`${directory}/${list}`, "utf8").catch(() => "");
    if (new RegExp(`(^|/)${name}\\.ko(\\.\\w+)?(:|$)`, "m").test(text)) return true;
  }
  return false;
}

/** The value of a sysctl by its path below `/proc/sys`; undefined when there is no such one. */
export async function readSysctl(path: string): Promise<string | undefined> {
  const text = await readFile(`/proc/sys/${path}`, "utf8").catch(() => undefined);
  return text?.trim();
}

export interface IptablesFacts {
  /** As it says of itself: `iptables v1.8.9 (nf_tables)`. */
  readonly version: string;
  readonly backend: "nf_tables" | "legacy";
  /** The other backend has tables too: rules of both apply, and each tool shows only its own. */
  readonly mixed: boolean;
}

/** Undefined when iptables is not installed. */
export async function iptablesFacts(signal?: AbortSignal): Promise<IptablesFacts | undefined> {
  const run = promisify(execFile);
  const options = { timeout: 5_000, encoding: "utf8", signal } as const;
  const version = await run("iptables", ["--version"], options).catch(() => undefined);
  if (version === undefined) return undefined;
  const text = version.stdout.trim();
  // Without the word it is of a time when there was but one.
  const backend = text.includes("nf_tables") ? "nf_tables" : "legacy";
  const legacyTables = (await readFile("/proc/net/ip_tables_names", "utf8").catch(() => "")).trim();
  return { version: text, backend, mixed: backend === "nf_tables" && legacyTables !== "" };
}

/** Whether the kernel takes the clock for synchronised: adjtimex(2). Undefined where it may not be asked. */
export function isClockSynchronised(): boolean | undefined {
  const state = clockState();
  return state === undefined ? undefined : state !== TIME_ERROR;
}

const TIME_ERROR = 5;
