import { createHash } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import {
  CocoonError,
  CorruptError,
  counted,
  decode,
  describeError,
  type Entry,
  keys,
  type RawConfig,
  rawConfigSchema,
} from "@cocoon-net/core";
import { z } from "zod";
import { syncDirectory, unwritable } from "./durable-file.ts";

/**
 * A whole cluster in a file: lines of JSON. The first says what it is, the last how many lines of records there are
 * and the SHA-256 of everything before it; without that last line the file is half.
 */
export interface ArchiveHeader {
  readonly clusterUID: string;
  /** The store it came from, without secrets. */
  readonly store: string;
  readonly revision: number;
  readonly time: string;
}

export interface Archive {
  readonly header: ArchiveHeader;
  readonly config: RawConfig;
  readonly entries: readonly Entry[];
}

const format = "cocoon-net-store";
const headerSchema = z.looseObject({
  format: z.literal(format),
  schema: z.literal(1),
  clusterUID: z.string(),
  store: z.string(),
  revision: z.int(),
  time: z.string(),
});
const recordSchema = z.object({ key: z.string().min(1), value: z.string(), revision: z.int() });
const endSchema = z.object({ end: z.int(), sha256: z.string() });

/** Replaces the file when all of it is on disk, and not before. @throws {CocoonError} naming the file */
export async function writeArchive(
  path: string,
  header: ArchiveHeader,
  entries: readonly Entry[],
): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    const file = await open(temporary, "w", 0o600);
    try {
      const hash = createHash("sha256");
      const write = async (text: string): Promise<void> => {
        hash.update(text);
        await file.writeFile(text);
      };
      await write(line({ format, schema: 1, ...header }));
      for (let start = 0; start < entries.length; start += 10_000) {
        const lines = entries
          .slice(start, start + 10_000)
          .map(({ key, value, modRevision }) => line({ key, value, revision: modRevision }));
        await write(lines.join(""));
      }
      await file.writeFile(line({ end: entries.length, sha256: hash.digest("hex") }));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (cause) {
    await rm(temporary, { force: true });
    throw unwritable(path, cause);
  }
}

/** Reads and checks all of it, before anything of it is used. @throws {CorruptError} */
export async function readArchive(path: string): Promise<Archive> {
  const hash = createHash("sha256");
  const entries: Entry[] = [];
  let header: ArchiveHeader | undefined;
  let end: z.infer<typeof endSchema> | undefined;
  let number = 0;
  for await (const text of linesOf(path)) {
    number++;
    const where = `${path}:${number}`;
    if (end) throw new CorruptError(`${where}: there is more after the end`);
    const json = parse(text, where);
    if (!header) {
      header = checked(headerSchema, json, where, `is not the beginning of a ${format} file`);
    } else if (typeof json === "object" && json !== null && "end" in json) {
      end = checked(endSchema, json, where, "is malformed");
      continue;
    } else {
      const { key, value, revision } = checked(recordSchema, json, where, "is not a record");
      entries.push({ key, value, createRevision: revision, modRevision: revision });
    }
    hash.update(`${text}\n`);
  }
  const hint = "nothing was written; export again";
  if (!header) throw new CorruptError(`${path} is empty`, { hint });
  if (!end)
    throw new CorruptError(`${path} ends in the middle, after ${counted(entries.length, "record")}`, {
      hint,
    });
  if (end.end !== entries.length || end.sha256 !== hash.digest("hex")) {
    throw new CorruptError(`${path} is not as it was written (${entries.length} of ${end.end} records)`, {
      hint,
    });
  }
  const config = entries.find((entry) => entry.key === keys.config);
  if (!config) throw new CorruptError(`${path} has no config record`, { hint });
  return { header, config: decode(rawConfigSchema, config), entries };
}

async function* linesOf(path: string): AsyncGenerator<string, void, void> {
  try {
    await using file = await open(path);
    yield* file.readLines();
  } catch (cause) {
    if (cause instanceof CocoonError) throw cause;
    throw new CocoonError("unreadable", `${path} cannot be read: ${describeError(cause)}`, { cause });
  }
}

function parse(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CorruptError(`${where}: is not JSON`, { cause });
  }
}

function checked<T>(schema: z.ZodType<T>, json: unknown, where: string, otherwise: string): T {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new CorruptError(`${where}: ${otherwise} (${issue?.path.join(".") || "line"}: ${issue?.message})`);
}

function line(record: unknown): string {
  return `${JSON.stringify(record)}\n`;
}
