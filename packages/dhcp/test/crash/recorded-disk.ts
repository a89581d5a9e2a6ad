/**
 * Records what the package does to the files of one directory. `crash.test.ts` puts these functions in the place of those of
 * `node:fs` and `node:fs/promises` (`vi.mock`), so what is recorded is what production does. A call that is not known here is
 * refused while recording: nothing goes by unnoticed.
 */
import type { Mode, PathLike } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { DiskLog, type FileId } from "./disk-log.ts";

type Promises = typeof import("node:fs/promises");
type Callbacks = typeof import("node:fs");
type Handle = Awaited<ReturnType<Promises["open"]>>;

interface Open {
  readonly file: FileId | "directory";
  readonly isSynced: boolean;
}

let recording:
  | { readonly directory: string; readonly log: DiskLog; readonly open: Map<number, Open> }
  | undefined;

let isReadOnly = false;

/** Makes every change of the recorded directory fail, as on a file system that an error turned read-only. */
export function setReadOnly(value: boolean): void {
  isReadOnly = value;
}

function refusal(): NodeJS.ErrnoException | undefined {
  if (!isReadOnly) return undefined;
  return Object.assign(new Error("EROFS: read-only file system"), { code: "EROFS" });
}

function mayChange(): void {
  const error = refusal();
  if (error !== undefined) throw error;
}

/** Records while `work` runs. */
export async function record(directory: string, work: (log: DiskLog) => Promise<void>): Promise<DiskLog> {
  const log = new DiskLog(await filesIn(directory));
  recording = { directory: resolve(directory), log, open: new Map() };
  try {
    await work(log);
  } finally {
    recording = undefined;
    isReadOnly = false;
  }
  return log;
}

export async function filesIn(directory: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const name of (await readdir(directory)).toSorted())
    files.set(name, await readFile(join(directory, name)));
  return files;
}

/** The name inside the recorded directory; "" is the directory itself. */
function nameOf(path: unknown): string | undefined {
  if (recording === undefined) return undefined;
  const full = resolve(String(path));
  if (full === recording.directory) return "";
  return full.startsWith(`${recording.directory}/`) ? full.slice(recording.directory.length + 1) : undefined;
}

function unknown(call: string): never {
  throw new Error(`the crash harness does not know ${call}: teach it, or what that does is not tested`);
}

/** Writing flags of open(2). */
const O_CREAT = 0o100;
const O_TRUNC = 0o1000;
const O_DSYNC = 0o10000;

export function recordedPromises(real: Promises): Promises {
  return {
    ...real,
    open: async (path: PathLike, flags: string | number = "r", mode?: Mode) => {
      const name = nameOf(path);
      if (recording === undefined || name === undefined) return real.open(path, flags, mode);
      const numeric = { r: 0, "r+": 0, "w+": O_CREAT | O_TRUNC, w: O_CREAT | O_TRUNC }[flags] ?? flags;
      if (typeof numeric !== "number") return unknown(`open with ${flags}`);
      if (numeric !== 0) mayChange();
      const handle = await real.open(path, flags, mode);
      if (name === "") {
        recording.open.set(handle.fd, { file: "directory", isSynced: false });
      } else {
        let file = recording.log.fileAt(name);
        if (file === undefined) file = recording.log.create(name);
        else if ((numeric & O_TRUNC) !== 0) recording.log.begin({ kind: "truncate", file, length: 0 })();
        recording.open.set(handle.fd, { file, isSynced: (numeric & O_DSYNC) !== 0 });
      }
      return recordedHandle(handle);
    },
    rename: async (from: PathLike, to: PathLike) => {
      const [source, target] = [nameOf(from), nameOf(to)];
      if (recording === undefined || source === undefined || target === undefined)
        return real.rename(from, to);
      mayChange();
      const ended = recording.log.rename(source, target);
      await real.rename(from, to);
      ended();
    },
    rm: async (path: PathLike, options?: Parameters<Promises["rm"]>[1]) => {
      const name = nameOf(path);
      const isThere = name !== undefined && recording?.log.fileAt(name) !== undefined;
      const ended = isThere ? recording?.log.unlink(name) : undefined;
      await real.rm(path, options);
      ended?.();
    },
    writeFile: async (path, ...rest) =>
      nameOf(path) === undefined ? real.writeFile(path, ...rest) : unknown("writeFile"),
    appendFile: async (path, ...rest) =>
      nameOf(path) === undefined ? real.appendFile(path, ...rest) : unknown("appendFile"),
    unlink: async (path) => (nameOf(path) === undefined ? real.unlink(path) : unknown("unlink")),
    truncate: async (path, length) =>
      nameOf(path) === undefined ? real.truncate(path, length) : unknown("truncate"),
  };
}

function recordedHandle(handle: Handle): Handle {
  const { fd } = handle;
  const opened = recording?.open.get(fd);
  const effect = async (
    kind: "sync" | "truncate",
    length: number,
    call: () => Promise<void>,
  ): Promise<void> => {
    const { log } = recording ?? {};
    if (log === undefined || opened === undefined) return call();
    mayChange();
    const { file } = opened;
    const ended =
      file === "directory"
        ? log.begin({ kind: "sync-directory" })
        : log.begin(kind === "sync" ? { kind, file } : { kind, file, length });
    await call();
    ended();
  };
  const calls: Partial<Record<keyof Handle, unknown>> = {
    sync: () => effect("sync", 0, () => handle.sync()),
    datasync: () => effect("sync", 0, () => handle.datasync()),
    truncate: (length = 0) => effect("truncate", length, () => handle.truncate(length)),
    close: async () => {
      recording?.open.delete(fd);
      await handle.close();
    },
  };
  for (const call of ["write", "writev", "writeFile", "appendFile"] as const)
    calls[call] = () => unknown(`handle.${call}`);
  return new Proxy(handle, {
    get: (target, name) => {
      if (name in calls) return calls[name as keyof Handle];
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

export function recordedCallbacks(real: Callbacks): Callbacks {
  type Done = (error: NodeJS.ErrnoException | null, written: number, bytes: Buffer) => void;
  const write = (fd: number, bytes: Buffer, offset: number, length: number, at: number, done: Done): void => {
    const opened = recording?.open.get(fd);
    if (recording === undefined || opened === undefined || opened.file === "directory") {
      real.write(fd, bytes, offset, length, at, done);
      return;
    }
    const error = refusal();
    if (error !== undefined) {
      done(error, 0, bytes);
      return;
    }
    const { file, isSynced } = opened;
    const copy = Buffer.from(bytes.subarray(offset, offset + length));
    const ended = recording.log.begin({ kind: "write", file, at, bytes: copy, isSynced });
    real.write(fd, bytes, offset, length, at, (error, written, buffer) => {
      if (error === null && written !== length) unknown("a short write");
      ended();
      done(error, written, buffer);
    });
  };
  return { ...real, write: write as Callbacks["write"] };
}
