import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

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

/** Writes all of it at `position`, in as many calls as it takes. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
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
  const aside = `${path}.corrupt-${at.toISOString().replaceAll(/[:.]/g, "-")}`;
  await rename(path, aside);
  await syncDirectory(dirname(path));
  return aside;
}

export function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
