import { type Compare, type Entry, InvalidError, type Operation, type TxnRequest } from "@cocoon-net/core";
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
  for (const part of [compares, then, otherwise]) {
    if (part.length <= limits.maxOperations) continue;
    throw new InvalidError(`a transaction of ${part.length} operations is too large`, {
      hint: `use at most ${limits.maxOperations}`,
    });
  }
  return [
    compares.length,
    ...compares.flatMap(encodeCompare),
    ...encodeBranch(then),
    ...encodeBranch(otherwise),
  ];
}

export function writes(request: TxnRequest): { puts: boolean; any: boolean } {
  const operations = [...(request.then ?? []), ...(request.else ?? [])];
  return {
    puts: operations.some((operation) => "put" in operation),
    any: operations.some((operation) => !("get" in operation)),
  };
}

/** An entry as the scripts answer it: key, value, createRevision, modRevision. */
export type EntryReply = readonly [string, string, string, string];

export function decodeEntry([key, value, created, modified]: EntryReply): Entry {
  return { key, value, createRevision: Number(created), modRevision: Number(modified) };
}

function encodeCompare(compare: Compare): string[] {
  const key = checkKey(compare.key);
  if ("exists" in compare) return ["exists", key, compare.exists ? "1" : "0"];
  if ("createRevision" in compare) return ["created", key, String(compare.createRevision)];
  if ("modRevision" in compare) return ["modified", key, String(compare.modRevision)];
  return ["value", key, compare.value];
}

function encodeBranch(operations: readonly Operation[]): (string | number)[] {
  const written = new Set<string>();
  const encoded = operations.flatMap((operation) => {
    if ("get" in operation) return ["get", checkKey(operation.get), "", ""];
    const key = checkKey("put" in operation ? operation.put : operation.delete);
    if (written.has(key)) throw new InvalidError(`a transaction writes the key ${key} twice in one branch`);
    written.add(key);
    if ("delete" in operation) return ["delete", key, "", ""];
    const { value, session } = operation;
    if (Buffer.byteLength(value) > limits.maxValueBytes) {
      throw new InvalidError(`the value for ${key} is longer than ${limits.maxValueBytes} bytes`);
    }
    if (!value.isWellFormed()) throw new InvalidError(`the value for ${key} holds half a character`);
    if (session?.signal.aborted) throw sessionOver(session.id, key);
    return ["put", key, value, session?.id ?? ""];
  });
  return [operations.length, ...encoded];
}

export function sessionOver(id: string, key: string): InvalidError {
  return new InvalidError(`session ${id} is over, ${key} was not put`, { hint: "open a new session" });
}
