import {
  type Compare,
  checkKey,
  checkTxn,
  type Entry,
  InvalidError,
  type Operation,
  stepsOf,
  type TxnRequest,
  type TxnStep,
} from "@cocoon-net/core";
import { placeOf } from "./block.ts";
import { packTexts } from "./text-array.ts";

/** Kept so that no script runs long: others wait meanwhile. */
export const limits: { readonly maxOperations: number; readonly maxValueBytes: number } = {
  maxOperations: 128,
  maxValueBytes: 1_048_576,
};

/**
 * A transaction as the arguments of the `txn` script.
 * @throws {InvalidError} when it is beyond the limits, or writes a key twice in one branch.
 */
export function encodeTxn(request: TxnRequest): (string | Buffer)[] {
  checkTxn(request, limits);
  const steps = stepsOf(request);
  return [JSON.stringify(steps.map(encodeStep)), ...steps.map(packPuts)];
}

/** The keys that a branch reads, in the order in which the script answers them. */
export function readsOf(operations: readonly Operation[] = []): string[] {
  const keys: string[] = [];
  for (const operation of operations) if ("get" in operation) keys.push(operation.get);
  return keys;
}

/** What the script answers for one key that was read. */
export function decodeRead(key: string, value: Buffer | null, revisions: Buffer | null): Entry | undefined {
  if (value === null || revisions === null) return undefined;
  const [createRevision = 0, modRevision = 0] = String(revisions).split(" ").map(Number);
  return { key, value: String(value), createRevision, modRevision };
}

type Word = string | number;

function encodeStep({ if: compares = [], then = [] }: TxnStep): Word[][] {
  const put: Word[] = [];
  const deletes: Word[] = [];
  const gets: Word[] = [];
  // Of what was put last: neighbours in a block make one entry.
  let session = "";
  for (const operation of then) {
    if ("put" in operation) {
      const { block, bit } = placed(operation.put);
      const holder = operation.session?.id ?? "";
      const last = put.length - 3;
      if (put[last] === block && session === holder) put[last + 1] = Number(put[last + 1]) | bit;
      else put.push(block, bit, holder);
      session = holder;
    } else if ("delete" in operation) {
      const { block, bit } = placed(operation.delete);
      deletes.push(operation.delete, block, bit);
    } else {
      const { block, bit } = placed(operation.get);
      gets.push(operation.get, block, bit);
    }
  }
  return [compares.flatMap(encodeCompare), put, deletes, gets];
}

function encodeCompare(compare: Compare): Word[] {
  const { key } = compare;
  const { block, bit } = placed(key);
  return [key, block, bit, ...operandOf(compare)];
}

function operandOf(compare: Compare): [kind: string, operand: string] {
  if ("exists" in compare) return ["exists", compare.exists ? "1" : "0"];
  if ("createRevision" in compare) return ["created", String(compare.createRevision)];
  if ("modRevision" in compare) return ["modified", String(compare.modRevision)];
  return ["value", compare.value];
}

function placed(key: string): ReturnType<typeof placeOf> {
  checkKey(key);
  return placeOf(key);
}

function packPuts({ then = [] }: TxnStep): Buffer | "" {
  const texts: string[] = [];
  for (const operation of then) if ("put" in operation) texts.push(operation.put, operation.value);
  return texts.length === 0 ? "" : packTexts(texts);
}

export function sessionOver(id: string, request: TxnRequest): InvalidError {
  const tied = stepsOf(request)
    .flatMap(({ then = [] }) => then)
    .find((operation) => "put" in operation && operation.session?.id === id);
  const key = tied && "put" in tied ? tied.put : "its key";
  return new InvalidError(`session ${id} is over, ${key} was not put`, { hint: "open a new session" });
}
