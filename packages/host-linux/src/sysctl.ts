import { readFile, writeFile } from "node:fs/promises";
import { codeOf, kernelError } from "./kernel-errors.ts";

/** A sysctl by its path below `/proc/sys`, because a link's name may hold dots: `net/ipv4/conf/eth0.7/rp_filter`. */
export interface Sysctl {
  readonly path: string;
  readonly value: string;
}

/**
 * Writes a sysctl unless it already has the value. `/proc/sys/net` shows the network namespace of the process.
 *
 * @returns whether it had to be written
 * @throws {NotFoundError} when there is no such sysctl, {AuthError} without the permission, else a `kernel` error
 */
export async function ensureSysctl(sysctl: Sysctl): Promise<boolean> {
  const file = `/proc/sys/${sysctl.path}`;
  try {
    if ((await readFile(file, "utf8")).trim() === sysctl.value) return false;
    await writeFile(file, `${sysctl.value}\n`, { flag: "r+" });
    return true;
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    const hint = code === "EROFS" ? "mount /proc/sys writable, or run outside the container" : undefined;
    throw kernelError(`set sysctl ${describeSysctl(sysctl)}`, code, { hint });
  }
}

/** `net.ipv4.ip_forward=1`, with the slash form where a name holds dots, as sysctl(8) does. */
export function describeSysctl({ path, value }: Sysctl): string {
  return `${path.includes(".") ? path : path.replaceAll("/", ".")}=${value}`;
}
