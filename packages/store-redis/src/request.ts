import {
  type Compare,
  checkTxn,
  type Entry,
  InvalidError,
  type Operation,
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
export function encodeTxn(request: TxnRequest): (string | number)[] {
  const { if: compares = [], then = [], else: otherwise = [] } = request;
  checkTxn(request, limits);
  return [
    compares.length,
    ...compares.flatMap(encodeCompare),
    ...encodeBranch(then),
    ...encodeBranch(otherwise),
  ];
}

/** An entry as the scripts answer it: key, value, createRevision, modRevision. */
export type EntryReply = readonly [string, string, string, string];

export function decodeEntry([key, value, created, modified]: EntryReply): Entry {
  return { key, value, createRevision: Number(created), modRevision: Number(modified) };
}

/** A page of the `list` script as entries. */
export function decodePage(members: readonly string[], values: readonly string[]): Entry[] {
  return members.map((member, at) => {
    const [key = "", created, modified] = member.split("\0", 3);
    return {
      key,
      value: values[at] ?? "",
      createRevision: Number(created),
      modRevision: Number(modified),
    };
  });
}

function encodeCompare(compare: Compare): string[] {
  const key = checkKey(compare.key);
  if ("exists" in compare) return ["exists", key, compare.exists ? "1" : "0"];
  if ("createRevision" in compare) return ["created", key, String(compare.createRevision)];
  if ("modRevision" in compare) return ["modified", key, String(compare.modRevision)];
  return ["value", key, compare.value];
}

function encodeBranch(operations: readonly Operation[]): (string | number)[] {
  const encoded = operations.flatMap((operation) => {
    if ("get" in operation) return ["get", checkKey(operation.get), "", ""];
    if ("delete" in operation) return ["delete", checkKey(operation.delete), "", ""];
    return ["put", checkKey(operation.put), operation.value, operation.session?.id ?? ""];
  });
  return [operations.length, ...encoded];
}

export function sessionOver(id: string, key: string): InvalidError {
  return new InvalidError(`session ${id} is over, ${key} was not put`, { hint: "open a new session" });
}
