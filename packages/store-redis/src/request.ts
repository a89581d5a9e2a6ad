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
import { blockSize, Placing, placeOf } from "./block.ts";
import { joinTexts } from "./text-array.ts";

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
  const values: (string | Buffer)[] = [];
  const steps = stepsOf(request).map((step) => encodeStep(step, values));
  return [JSON.stringify(steps), ...values];
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

/** The keys of a block that a step puts. */
interface Puts {
  readonly block: string;
  /** Those that hang on no session, as bits. */
  free: number;
  /** Bits of others, and the session that they hang on, in turn. */
  readonly tied: Word[];
  /** By place of the key in the block. */
  readonly values: (string | undefined)[];
}

/** Appends to `values` those of each block, joined. */
function encodeStep({ if: compares = [], then = [] }: TxnStep, values: (string | Buffer)[]): unknown[] {
  const puts = new Map<string, Puts>();
  const deletes = new Map<string, number>();
  const gets: Word[] = [];
  const placing = new Placing();
  let last: Puts | undefined;
  for (const operation of then) {
    const key = keyOf(operation);
    checkKey(key);
    const { block, bit } = placing.place(key);
    if ("get" in operation) gets.push(block, bit);
    else if ("delete" in operation) deletes.set(block, (deletes.get(block) ?? 0) | bit);
    else {
      // Neighbours often come together.
      if (last?.block !== block) last = puts.get(block);
      if (last === undefined) {
        last = { block, free: 0, tied: [], values: new Array<string | undefined>(blockSize) };
        puts.set(block, last);
      }
      if (operation.session) last.tied.push(bit, operation.session.id);
      else last.free |= bit;
      last.values[31 - Math.clz32(bit)] = operation.value;
    }
  }
  const masks: Word[][] = [];
  for (const { block, free, tied, values: byPlace } of puts.values()) {
    masks.push(free === 0 ? [block, ...tied] : [block, free, "", ...tied]);
    values.push(joinTexts(byPlace.filter((value) => value !== undefined)));
  }
  return [compares.flatMap(encodeCompare), masks, [...deletes].flat(), gets];
}

function keyOf(operation: Operation): string {
  if ("put" in operation) return operation.put;
  return "delete" in operation ? operation.delete : operation.get;
}

function encodeCompare(compare: Compare): Word[] {
  const { key } = compare;
  checkKey(key);
  const { block, bit } = placeOf(key);
  return [block, bit, ...operandOf(compare)];
}

function operandOf(compare: Compare): [kind: string, operand: string] {
  if ("exists" in compare) return ["exists", compare.exists ? "1" : "0"];
  if ("createRevision" in compare) return ["created", String(compare.createRevision)];
  if ("modRevision" in compare) return ["modified", String(compare.modRevision)];
  return ["value", compare.value];
}

export function sessionOver(id: string, request: TxnRequest): InvalidError {
  const tied = stepsOf(request)
    .flatMap(({ then = [] }) => then)
    .find((operation) => "put" in operation && operation.session?.id === id);
  const key = tied && "put" in tied ? tied.put : "its key";
  return new InvalidError(`session ${id} is over, ${key} was not put`, { hint: "open a new session" });
}
