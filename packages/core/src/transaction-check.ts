import { InvalidError } from "./errors.ts";
import type { Operation, StoreCapabilities, TxnRequest, TxnStep } from "./store.ts";

/**
 * What every backend refuses before it sends a transaction: more than its limits, a key written twice in one
 * branch, text that has no UTF-8, a session that is over. @throws {InvalidError}
 */
export function checkTxn(
  request: TxnRequest,
  limits: Pick<StoreCapabilities, "maxOperations" | "maxValueBytes">,
): void {
  const { or = [], else: otherwise = [] } = request;
  let length = 0;
  for (const step of [request, ...or]) length += longest(step);
  // The last step and `else` are two branches of one place.
  const last = longest(or.at(-1) ?? request);
  length += Math.max(otherwise.length - last, 0);
  if (length > limits.maxOperations) {
    throw new InvalidError(`a transaction has ${length} compares or operations in one branch`, {
      hint: `this store takes ${limits.maxOperations} at most`,
    });
  }
  for (const { then = [] } of stepsOf(request)) checkBranch(then, limits.maxValueBytes);
}

/** What a transaction tries in turn, `else` at the end as the step that always holds. */
export function stepsOf(request: TxnRequest): readonly TxnStep[] {
  const { or = [], else: otherwise = [] } = request;
  return [request, ...or, { then: otherwise }];
}

/** What every backend refuses as a key. @throws {InvalidError} */
export function checkKey(key: string): void {
  if (key !== "" && !key.includes("\0") && key.isWellFormed()) return;
  throw new InvalidError(`store key ${JSON.stringify(key)} is empty or holds a NUL or half a character`);
}

/** Whether a transaction can change anything: a lost answer then leaves its outcome unknown. */
export function writesOf(request: TxnRequest): boolean {
  return stepsOf(request).some(({ then = [] }) => then.some((operation) => !("get" in operation)));
}

function longest({ if: compares = [], then = [] }: TxnStep): number {
  return Math.max(compares.length, then.length);
}

function checkBranch(operations: readonly Operation[], maxValueBytes: number): void {
  const written = new Set<string>();
  for (const operation of operations) {
    if ("get" in operation) continue;
    const key = "put" in operation ? operation.put : operation.delete;
    if (written.has(key)) throw new InvalidError(`a transaction writes the key ${key} twice in one branch`);
    written.add(key);
    if (!("put" in operation)) continue;
    const { value, session } = operation;
    // A unit of UTF-16 is 3 bytes at most.
    if (value.length * 3 > maxValueBytes && Buffer.byteLength(value) > maxValueBytes) {
      throw new InvalidError(`the value for ${key} is longer than ${maxValueBytes} bytes`);
    }
    if (!value.isWellFormed()) throw new InvalidError(`the value for ${key} holds half a character`);
    if (session?.signal.aborted) {
      throw new InvalidError(`session ${session.id} is over, ${key} was not put`, {
        hint: "open a new session",
      });
    }
  }
}
