import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { CocoonError, ConflictError, describeError } from "@cocoon-net/core";
import { mustBeFile } from "@cocoon-net/dhcp";

export const defaultPidFile = "/run/cocoon-net.pid";

/**
 * Holds a pid file until disposed. A file left by a process that is gone, or whose pid now belongs to another
 * program, is replaced.
 * @throws {ConflictError} when another daemon holds it
 */
export async function holdPidFile(path: string): Promise<AsyncDisposable> {
  // The content is complete before the name appears, and link() fails if the name is taken: no half-written
  // file can be read, and of two daemons starting at once one wins.
  await mustBeFile(path);
  const own = `${path}.${process.pid}`;
  try {
    await writeFile(own, `${process.pid}\n`, { mode: 0o644 });
    for (let attempt = 0; attempt < 5; attempt++) {
      if (await taken(own, path)) return { [Symbol.asyncDispose]: () => release(path) };
      const holder = await runningDaemon(path);
      if (holder !== undefined) {
        throw new ConflictError(`another cocoon-net daemon is running (pid ${holder})`, {
          hint: `stop it first; ${path} names it`,
        });
      }
      await removeStale(path, `${own}.stale`);
    }
    throw new ConflictError(`pid file ${path} keeps being taken by another daemon`);
  } catch (cause) {
    if (cause instanceof CocoonError) throw cause;
    throw new CocoonError("unwritable", `pid file ${path} cannot be written: ${describeError(cause)}`, {
      cause,
    });
  } finally {
    await rm(own, { force: true });
  }
}

/** The pid of the daemon that holds the file, undefined when none does. */
export async function runningDaemon(path: string): Promise<number | undefined> {
  const pid = await pidIn(path);
  return pid !== undefined && (await isDaemon(pid)) ? pid : undefined;
}

async function taken(own: string, path: string): Promise<boolean> {
  try {
    await link(own, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Another daemon may have put its own file there since the look: what was taken away is looked at again. */
async function removeStale(path: string, aside: string): Promise<void> {
  try {
    await rename(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  if ((await runningDaemon(aside)) !== undefined) await taken(aside, path);
  await rm(aside, { force: true });
}

async function release(path: string): Promise<void> {
  if ((await pidIn(path)) === process.pid) await rm(path, { force: true });
}

async function pidIn(path: string): Promise<number | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  return /^\d+\s*$/.test(text) ? Number(text) : undefined;
}

/** Ours, and the program's that ours takes over from: `…/cocoon-net daemon …`, started by Node or by itself. */
async function isDaemon(pid: number): Promise<boolean> {
  if (pid === process.pid) return false;
  const words = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
  return words.some(
    (word, index) => /^cocoon-net(\.js)?$/.test(basename(word)) && words[index + 1] === "daemon",
  );
}
