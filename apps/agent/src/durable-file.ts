import { access, constants, open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { CocoonError, describeError } from "@cocoon-net/core";
import { mustBeFile } from "@cocoon-net/dhcp";

/**
 * Replaces a file so that after a crash either the old or the new content is there, whole and on disk.
 * @throws {InvalidError} when the path is no regular file
 * @throws {CocoonError} `unwritable`, naming the file; the old content is still there
 */
export async function replaceFile(path: string, content: string, mode = 0o644): Promise<void> {
  await mustBeFile(path);
  try {
    await replace(path, content, mode);
  } catch (cause) {
    throw unwritable(path, cause);
  }
}

/**
 * That {@link replaceFile} could replace a file, or make it, as far as that is to be seen beforehand.
 * @throws {InvalidError} when the path is no regular file
 * @throws {CocoonError} `unwritable`, naming the file
 */
export async function mustBeWritable(path: string): Promise<void> {
  await mustBeFile(path);
  try {
    await access(dirname(path), constants.W_OK);
  } catch (cause) {
    throw unwritable(path, cause);
  }
}

/** Why a file cannot be written, and what its operator can do. */
export function unwritable(path: string, cause: unknown): CocoonError {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  const hint =
    code === "ENOENT"
      ? `make the directory ${dirname(path)}, or name another one`
      : code === "ENOSPC" || code === "EDQUOT"
        ? "make room there, and repeat this"
        : "name a directory that can be written";
  return new CocoonError("unwritable", `${path} cannot be written: ${describeError(cause)}`, { cause, hint });
}

async function replace(path: string, content: string, mode: number): Promise<void> {
  const temporary = `${path}.tmp`;
  const file = await open(temporary, "w", mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

/** Makes renames and removals in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
