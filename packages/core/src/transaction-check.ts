import { InvalidError } from "./errors.ts";
import type { Operation, StoreCapabilities, TxnRequest } from "./store.ts";

/**
 * What every backend refuses before it sends a transaction: more than its limits, a key written twice in one
 * branch, text that has no UTF-8, a session that is over. @throws {InvalidError}
 */
export function checkTxn(
  request: TxnRequest,
  limits: Pick<StoreCapabilities, "maxOperations" | "maxValueBytes">,
): void {
  const { if: compares = [], then = [], else: otherwise = [] } = request;
  for (const part of [compares, then, otherwise]) {
    if (part.length <= limits.maxOperations) continue;
    throw new InvalidError(`a transaction has ${part.length} compares or operations in one branch`, {
      hint: `this store takes ${limits.maxOperations} at most`,
    });
  }
  checkBranch(then, limits.maxValueBytes);
  checkBranch(otherwise, limits.maxValueBytes);
}

/** What every backend refuses as a key. @throws {InvalidError} */
export function checkKey(key: string): void {
  if (key !== "" && !key.includes("\0") && key.isWellFormed()) return;
  throw new InvalidError(`store key ${JSON.stringify(key)} is empty or holds a NUL or half a character`);
}

/** Whether a transaction can change anything: a lost answer then leaves its outcome unknown. */
export function writesOf(request: TxnRequest): boolean {
  return [...(request.then ?? []), ...(request.else ?? [])].some((operation) => !("get" in operation));
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
    if (Buffer.byteLength(value) > maxValueBytes) {
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
