import { type Stats, write } from "node:fs";
import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { InvalidError } from "@cocoon-net/core";

/**
 * To be asked before a path is replaced, renamed or removed: whoever names a device, e.g. `/dev/null`, must not lose it.
 * @throws {InvalidError} when something is there that is no regular file
 */
export async function mustBeFile(path: string): Promise<void> {
  let found: Stats;
  try {
    found = await stat(path);
  } catch (error) {
    // What is in the way of the file itself is told by whoever opens it.
    if (codeOf(error) !== undefined) return;
    throw error;
  }
  if (found.isFile()) return;
  throw new InvalidError(`${path} is not a regular file: it is left alone`, { hint: "name another path" });
}

/**
 * Replaces `path` by a file that `write` fills: temporary file beside it, fsync, rename. A reader sees the old file
 * or the whole new one; on failure the old one stays. The rename itself survives a power cut only after
 * `syncDirectory`.
 *
 * @returns the handle of the new file, open for reading and writing
 */
export async function replaceFile(
  path: string,
  mode: number,
  write: (handle: FileHandle) => Promise<void>,
): Promise<FileHandle> {
  await mustBeFile(path);
  const temporary = `${path}.tmp`;
  const handle = await open(temporary, "w+", mode);
  try {
    await handle.chmod(mode); // `open` applies the umask
    await write(handle);
    await handle.sync();
    await rename(temporary, path);
    return handle;
  } catch (error) {
    await handle.close();
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** Writes all of it at `position`, in as many calls as it takes. The handle must stay open meanwhile. */
export function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const writeFrom = (done: number): void => {
      // With a callback it costs the event loop a third of what `handle.write` does.
      write(handle.fd, bytes, done, bytes.length - done, position + done, (error, written) => {
        if (error !== null) reject(error);
        else if (done + written === bytes.length) resolve();
        else writeFrom(done + written);
      });
    };
    writeFrom(0);
  });
}

/** Makes a rename in the directory survive a power cut. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Moves a damaged file out of the way. @returns its new path */
export async function keepAside(path: string, at: Date): Promise<string> {
  await mustBeFile(path);
  const aside = `${path}.corrupt-${at.toISOString().replaceAll(/[:.]/g, "-")}`;
  await rename(path, aside);
  await syncDirectory(dirname(path));
  return aside;
}

export function isMissing(error: unknown): boolean {
  return codeOf(error) === "ENOENT";
}

/** The errno name of an error that Node raised; undefined for anything else. */
export function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
