import type { Random } from "../fuzz/mutator.ts";

/** A file as the file system knows it: names may change, the file stays. */
export type FileId = number;

type Effect =
  | { readonly kind: "create" | "unlink"; readonly path: string; readonly file: FileId }
  | { readonly kind: "rename"; readonly from: string; readonly to: string; readonly file: FileId }
  | {
      readonly kind: "write";
      readonly file: FileId;
      readonly at: number;
      readonly bytes: Buffer;
      readonly isSynced: boolean;
    }
  | { readonly kind: "truncate"; readonly file: FileId; readonly length: number }
  | { readonly kind: "sync"; readonly file: FileId }
  | { readonly kind: "sync-directory" };

interface Operation {
  readonly effect: Effect;
  readonly begin: number;
  /** Infinity while it runs. */
  end: number;
}

/**
 * What a crash leaves. `kill`: the process stops, the kernel goes on. `power-cut`: nothing that was not synced is there.
 * `torn`: of what was not synced, any part is there: any prefix of the directory's changes, any of the writes, any prefix of a
 * write.
 */
export type Crash = "kill" | "power-cut" | "torn";
export const crashes: readonly Crash[] = ["kill", "power-cut", "torn"];

type Files = ReadonlyMap<string, Buffer>;

/** What a program did to the files of one directory, in the order in which the operations began and ended. */
export class DiskLog {
  readonly #base: Files;
  readonly #operations: Operation[] = [];
  readonly #ids = new Map<string, FileId>();
  #moment = 0;
  #lastId = 0;

  constructor(base: Files) {
    this.#base = base;
    for (const path of base.keys()) this.#ids.set(path, ++this.#lastId);
  }

  /** Moments so far: each begin and each end of an operation is one. */
  get moments(): number {
    return this.#moment;
  }

  fileAt(path: string): FileId | undefined {
    return this.#ids.get(path);
  }

  /** @returns what to call when the operation has ended */
  begin(effect: Effect): () => void {
    const operation: Operation = { effect, begin: this.#moment++, end: Number.POSITIVE_INFINITY };
    this.#operations.push(operation);
    return () => {
      operation.end = this.#moment++;
    };
  }

  create(path: string): FileId {
    const file = ++this.#lastId;
    this.#ids.set(path, file);
    this.begin({ kind: "create", path, file })();
    return file;
  }

  rename(from: string, to: string): () => void {
    const file = this.#ids.get(from) ?? 0;
    this.#ids.delete(from);
    this.#ids.set(to, file);
    return this.begin({ kind: "rename", from, to, file });
  }

  unlink(path: string): () => void {
    const file = this.#ids.get(path) ?? 0;
    this.#ids.delete(path);
    return this.begin({ kind: "unlink", path, file });
  }

  /** The files that are there after a crash at this moment. */
  after(crash: Crash, moment: number, random: Random): Map<string, Buffer> {
    const begun = this.#operations.filter(({ begin }) => begin < moment);
    const contents = new Map<FileId, Buffer>();
    const names = new Map<string, FileId>();
    let id = 0;
    for (const [path, content] of this.#base) {
      names.set(path, ++id);
      contents.set(id, content);
    }
    let namesGoOn = true;
    for (const operation of begun) {
      const isDone = operation.end < moment;
      const isDurable = isDone && this.#isDurable(operation, moment);
      const { effect } = operation;
      if (effect.kind === "create" || effect.kind === "rename" || effect.kind === "unlink") {
        // A file system writes the changes of a directory in order: what comes after a lost one is lost too. But what a sync
        // found done is there, whatever began before it and was still under way.
        const mayBeThere =
          crash === "torn" ? random.chance(80) : crash === "kill" && (isDone || random.chance(50));
        const isThere: boolean = isDurable || (namesGoOn && mayBeThere);
        namesGoOn &&= isThere;
        if (isThere) changeName(names, effect);
        if (effect.kind === "create" && !contents.has(effect.file))
          contents.set(effect.file, Buffer.alloc(0));
      } else if (effect.kind === "write" || effect.kind === "truncate") {
        const survives = isDurable || (crash === "kill" && isDone);
        if (survives) change(contents, effect, 1);
        else if (crash !== "power-cut") change(contents, effect, random.pick([0, 0.3, 0.99, 1]));
      }
    }
    const files = new Map<string, Buffer>();
    for (const [path, file] of names) files.set(path, contents.get(file) ?? Buffer.alloc(0));
    return files;
  }

  #isDurable({ effect, end }: Operation, moment: number): boolean {
    if (effect.kind === "write" && effect.isSynced) return true;
    const isName = effect.kind === "create" || effect.kind === "rename" || effect.kind === "unlink";
    return this.#operations.some(
      ({ effect: sync, begin, end: synced }) =>
        begin > end &&
        synced < moment &&
        (isName
          ? sync.kind === "sync-directory"
          : sync.kind === "sync" && "file" in effect && sync.file === effect.file),
    );
  }
}

function changeName(names: Map<string, FileId>, effect: Effect): void {
  if (effect.kind === "create") names.set(effect.path, effect.file);
  else if (effect.kind === "unlink") names.delete(effect.path);
  else if (effect.kind === "rename") {
    names.delete(effect.from);
    names.set(effect.to, effect.file);
  }
}

/** @param share how much of a write got through */
function change(contents: Map<FileId, Buffer>, effect: Effect, share: number): void {
  if (effect.kind === "truncate" && share > 0) {
    const old = contents.get(effect.file) ?? Buffer.alloc(0);
    const kept = Buffer.alloc(effect.length);
    old.copy(kept);
    contents.set(effect.file, kept);
  }
  if (effect.kind !== "write") return;
  const bytes = effect.bytes.subarray(0, Math.floor(effect.bytes.length * share));
  if (bytes.length === 0) return;
  const old = contents.get(effect.file) ?? Buffer.alloc(0);
  const content = Buffer.alloc(Math.max(old.length, effect.at + bytes.length));
  old.copy(content);
  bytes.copy(content, effect.at);
  contents.set(effect.file, content);
}
