import { join } from "node:path";
import {
  contains,
  type MovedRecord,
  movedSchema,
  parseAddress,
  parseCidr,
  type RecordSchema,
  recordSchema as z,
} from "@cocoon-net/core";
import { replaceFile } from "./durable-file.ts";
import { type PoolFile, readRecord, type StateDirectory } from "./state-directory.ts";

/** A moved address that concerns this node, as the store had it last. */
export interface KnownMoved {
  readonly record: MovedRecord;
  /** The router of its home subnet, where this node may have to serve it. */
  readonly gateway?: string;
}

/** `moved.json`: what a restart without the store goes by. */
export interface MovedFile {
  /** This node's: what was moved while it had another one is over. */
  readonly subnet: string;
  readonly uid: string;
  /** The store's incarnation in which this was read. */
  readonly incarnation?: string;
  readonly addresses: Readonly<Record<string, KnownMoved>>;
}

const schema: RecordSchema<MovedFile> = z.object({
  subnet: z.cidrv4(),
  uid: z.string(),
  incarnation: z.exactOptional(z.string()),
  addresses: z.record(z.object({ record: movedSchema, gateway: z.exactOptional(z.ipv4()) }), z.ipv4()),
});

export function movedPathOf(state: StateDirectory): string {
  return join(state.path, "moved.json");
}

/** Undefined where there is none, or it is of another subnet. @throws {CorruptError} */
export async function readMovedFile(state: StateDirectory, subnet: string): Promise<MovedFile | undefined> {
  const file = await readRecord(movedPathOf(state), schema);
  return file?.subnet === subnet ? file : undefined;
}

/** Addresses of the node's subnet that others serve, or are about to, as the daemon has written them down. */
export async function movedAwayFrom(
  state: StateDirectory,
  { nodeName, subnet }: PoolFile,
): Promise<string[]> {
  const { addresses = {} } = (await readMovedFile(state, subnet)) ?? {};
  const block = parseCidr(subnet);
  return Object.entries(addresses)
    .filter(([ip]) => contains(block, parseAddress(ip)))
    .filter(([, { record }]) => record.node !== nodeName || record.move !== undefined)
    .map(([ip]) => ip);
}

export async function writeMovedFile(state: StateDirectory, file: MovedFile): Promise<void> {
  await replaceFile(movedPathOf(state), `${JSON.stringify(file, null, 2)}\n`);
}
