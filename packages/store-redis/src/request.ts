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
import { Placing, placeOf } from "./block.ts";
import { packTexts } from "./text-array.ts";

/** Kept so that no script runs long: others wait meanwhile. */
export const limits: { readonly maxOperations: number; readonly maxValueBytes: number } = {
  maxOperations: 256,
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
  const placing = new Placing();
  /** Where in `put` the keys of a block are that hang on no session: they make one entry. */
  const free = new Map<string, number>();
  for (const operation of then) {
    const key = keyOf(operation);
    checkKey(key);
    const { block, bit } = placing.place(key);
    if (!("put" in operation)) ("delete" in operation ? deletes : gets).push(key, block, bit);
    else if (operation.session) put.push(block, bit, operation.session.id);
    else {
      const at = free.get(block);
      if (at === undefined) free.set(block, put.push(block, bit, "") - 3);
      else put[at + 1] = Number(put[at + 1]) | bit;
    }
  }
  return [compares.flatMap(encodeCompare), put, deletes, gets];
}

function keyOf(operation: Operation): string {
  if ("put" in operation) return operation.put;
  return "delete" in operation ? operation.delete : operation.get;
}

function encodeCompare(compare: Compare): Word[] {
  const { key } = compare;
  checkKey(key);
  const { block, bit } = placeOf(key);
  return [key, block, bit, ...operandOf(compare)];
}

function operandOf(compare: Compare): [kind: string, operand: string] {
  if ("exists" in compare) return ["exists", compare.exists ? "1" : "0"];
  if ("createRevision" in compare) return ["created", String(compare.createRevision)];
  if ("modRevision" in compare) return ["modified", String(compare.modRevision)];
  return ["value", compare.value];
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
