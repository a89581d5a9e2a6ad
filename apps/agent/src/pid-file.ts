import { link, readFile, rm, writeFile } from "node:fs/promises";
import { CocoonError, ConflictError } from "@cocoon-net/core";

export const defaultPidFile = "/run/cocoon-net.pid";

/**
 * Holds a pid file until disposed. A file left by a process that is gone, or whose pid now belongs to another
 * program, is replaced.
 * @throws {ConflictError} when another daemon holds it.
 */
export async function holdPidFile(path: string): Promise<AsyncDisposable> {
  // The content is complete before the name appears, and link() fails if the name is taken: no half-written
  // file can be read, and of two daemons starting at once one wins.
  const own = `${path}.${process.pid}`;
  try {
    await writeFile(own, `${process.pid}\n`, { mode: 0o644 });
  } catch (cause) {
    throw new CocoonError("invalid", `pid file ${path} cannot be written: ${(cause as Error).message}`, {
      cause,
    });
  }
  try {
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        await link(own, path);
        return { [Symbol.asyncDispose]: () => release(path) };
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
      }
      const holder = await pidIn(path);
      if (holder !== undefined && (await isDaemon(holder))) {
        throw new ConflictError(`another cocoon-net daemon is running (pid ${holder})`, {
          hint: `stop it first; ${path} names it`,
        });
      }
      await rm(path, { force: true });
    }
    throw new ConflictError(`pid file ${path} keeps being taken by another daemon`);
  } finally {
    await rm(own, { force: true });
  }
}

/** The pid of the daemon that holds the file, undefined when none does. */
export async function runningDaemon(path: string): Promise<number | undefined> {
  const pid = await pidIn(path);
  return pid !== undefined && (await isDaemon(pid)) ? pid : undefined;
}

async function release(path: string): Promise<void> {
  if ((await pidIn(path)) === process.pid) await rm(path, { force: true });
}

async function pidIn(path: string): Promise<number | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  return /^\d+\s*$/.test(text) ? Number(text) : undefined;
}

async function isDaemon(pid: number): Promise<boolean> {
  if (pid === process.pid) return false;
  const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return commandLine.includes("cocoon-net");
}
