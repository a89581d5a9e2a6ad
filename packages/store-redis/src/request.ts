import {
  type Compare,
  checkTxn,
  type Entry,
  InvalidError,
  type Operation,
  stepsOf,
  type TxnRequest,
} from "@cocoon-net/core";
import { checkKey } from "./layout.ts";

/** Kept so that no script runs long: others wait meanwhile. */
export const limits: { readonly maxOperations: number; readonly maxValueBytes: number } = {
  maxOperations: 128,
  maxValueBytes: 1_048_576,
};

/**
 * A transaction as the arguments of the `txn` script.
 * @throws {InvalidError} when it is beyond the limits, or writes a key twice in one branch.
 */
export function encodeTxn(request: TxnRequest): string[] {
  checkTxn(request, limits);
  const counts: number[] = [];
  const args = [""];
  for (const { if: compares = [], then = [] } of stepsOf(request)) {
    counts.push(compares.length);
    for (const { key } of compares) args.push(checkKey(key));
    for (const compare of compares) args.push(...encodeOperand(compare));
    appendBranch(then, counts, args);
  }
  args[0] = counts.join(" ");
  return args;
}

/** The keys that a branch reads, in the order in which the script answers them. */
export function readsOf(operations: readonly Operation[] = []): string[] {
  return operations.flatMap((operation) => ("get" in operation ? [operation.get] : []));
}

/** An entry from its key and its field of the hash, see layout.ts. */
export function decodeEntry(key: string, field: string): Entry {
  const [mark, created, modified] = /^(\d+) (\d+)@?\S* /.exec(field) ?? ["", 1, 1];
  return {
    key,
    value: field.slice(mark.length),
    createRevision: Number(created),
    modRevision: Number(modified),
  };
}

/** Entries from keys and fields in turn, as the scripts join them. */
export function decodeEntries(joined: Buffer): Entry[] {
  const parts = splitJoined(joined);
  const entries: Entry[] = [];
  for (let at = 0; at < parts.length; at += 2)
    entries.push(decodeEntry(parts[at] ?? "", parts[at + 1] ?? ""));
  return entries;
}

/** Text that was joined by bytes 255, which UTF-8 does not have. */
export function splitJoined(joined: Buffer): string[] {
  const parts: string[] = [];
  for (let from = 0; from < joined.length; ) {
    const end = joined.indexOf(255, from);
    const to = end < 0 ? joined.length : end;
    parts.push(joined.toString("utf8", from, to));
    from = to + 1;
  }
  return parts;
}

function encodeOperand(compare: Compare): [kind: string, operand: string] {
  if ("exists" in compare) return ["exists", compare.exists ? "1" : "0"];
  if ("createRevision" in compare) return ["created", String(compare.createRevision)];
  if ("modRevision" in compare) return ["modified", String(compare.modRevision)];
  return ["value", compare.value];
}

function appendBranch(operations: readonly Operation[], counts: number[], args: string[]): void {
  const deletes: string[] = [];
  const values: string[] = [];
  const ties: string[] = [];
  for (const operation of operations) {
    if ("delete" in operation) deletes.push(checkKey(operation.delete));
    if (!("put" in operation)) continue;
    args.push(checkKey(operation.put));
    values.push(operation.value);
    if (operation.session) ties.push(String(values.length), operation.session.id);
  }
  const gets = readsOf(operations).map(checkKey);
  counts.push(values.length, deletes.length, gets.length, ties.length / 2);
  args.push(...deletes, ...gets, ...values, ...ties);
}

export function sessionOver(id: string, key: string): InvalidError {
  return new InvalidError(`session ${id} is over, ${key} was not put`, { hint: "open a new session" });
}
