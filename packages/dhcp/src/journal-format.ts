import { crc32 } from "node:zlib";
import type { AddressRecord } from "./lease.ts";

/**
 * The journal is text, one frame a line: eight hex digits of the CRC-32 of the rest, a space, JSON. The first
 * frame is the header; each other one holds the records of one write. A write is acknowledged only after it
 * was synced, and the next one starts only then: so a damaged frame at the end was never acknowledged and can
 * be cut, while a damaged frame with a whole one behind it means that the file was damaged later.
 */
export interface JournalHeader {
  readonly format: "cocoon-net-leases";
  readonly version: 1;
  /** The highest grant number ever used when the file was begun. */
  readonly seq: number;
}

export type ReadJournal =
  | {
      readonly ok: true;
      readonly header: JournalHeader;
      readonly records: AddressRecord[];
      readonly end: number;
    }
  | { readonly ok: false; readonly reason: string };

/** No frame is longer: a damaged tail that is cannot be one torn write. */
export const maxFrameBytes: number = 1 << 20;

const NEWLINE = 10;

export function encodeFrame(value: unknown): Buffer {
  const json = Buffer.from(JSON.stringify(value));
  const line = Buffer.allocUnsafe(json.length + 10);
  line.write(crc32(json).toString(16).padStart(8, "0"), "latin1");
  line.write(" ", 8, "latin1");
  json.copy(line, 9);
  line[line.length - 1] = NEWLINE;
  return line;
}

export function headerFrame(seq: number): Buffer {
  const header: JournalHeader = { format: "cocoon-net-leases", version: 1, seq };
  return encodeFrame(header);
}

/** Reads a whole journal. `end` is where its last whole frame ends; what follows is a torn write. */
export function readJournal(bytes: Buffer): ReadJournal {
  const headerEnd = bytes.indexOf(NEWLINE) + 1;
  const first = headerEnd === 0 ? undefined : decodeFrame(bytes.subarray(0, headerEnd - 1));
  if (first === undefined) return { ok: false, reason: "its header is damaged" };
  if (!isHeader(first.value)) {
    return {
      ok: false,
      reason: `its header is ${JSON.stringify(first.value).slice(0, 80)}, which this version does not know`,
    };
  }
  const records: AddressRecord[] = [];
  let end = headerEnd;
  let damagedAt: number | undefined;
  for (let at = headerEnd; at < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, at);
    const stop = newline < 0 ? bytes.length : newline;
    const frame = newline < 0 ? undefined : decodeFrame(bytes.subarray(at, stop));
    if (frame === undefined) damagedAt ??= at;
    else if (damagedAt !== undefined) return { ok: false, reason: `it is damaged at byte ${damagedAt}` };
    else {
      if (!Array.isArray(frame.value) || !frame.value.every(isAddressRecord)) {
        return { ok: false, reason: `it holds a record at byte ${at} that this version does not know` };
      }
      for (const record of frame.value) records.push(record);
      end = stop + 1;
    }
    at = stop + 1;
  }
  if (bytes.length - end > maxFrameBytes)
    return { ok: false, reason: `it is damaged from byte ${end} to its end` };
  return { ok: true, header: first.value, records, end };
}

function decodeFrame(line: Buffer): { value: unknown } | undefined {
  if (line.length < 10 || line[8] !== 0x20) return undefined;
  const json = line.subarray(9);
  if (line.toString("latin1", 0, 8) !== crc32(json).toString(16).padStart(8, "0")) return undefined;
  try {
    return { value: JSON.parse(json.toString()) };
  } catch {
    return undefined;
  }
}

function isHeader(value: unknown): value is JournalHeader {
  if (!isObject(value)) return false;
  return value.format === "cocoon-net-leases" && value.version === 1 && Number.isSafeInteger(value.seq);
}

function isAddressRecord(value: unknown): value is AddressRecord {
  if (!isObject(value)) return false;
  const { state, ip, mac, expiry, seq, until } = value;
  if (typeof ip !== "string" || !Number.isFinite(expiry) || !Number.isSafeInteger(seq)) return false;
  if (state === "leased") return typeof mac === "string";
  return (state === "ended" || state === "declined") && Number.isFinite(until);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
