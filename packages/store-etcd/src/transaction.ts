import {
  type Compare,
  InvalidError,
  type Operation,
  type Session,
  type TxnRequest,
  type TxnResult,
  type TxnStep,
} from "@cocoon-net/core";
import type { ICompare, IRequestOp, IResponseOp, ITxnRequest, ITxnResponse } from "etcd3";
import type { Keyspace } from "./keyspace.ts";

/** etcd's defaults: `--max-txn-ops`, and `--max-request-bytes` (1.5 MiB) less room for the rest of a request. */
export const limits: { readonly maxOperations: number; readonly maxValueBytes: number } = {
  maxOperations: 128,
  maxValueBytes: 1_468_006,
};

/** Whether a session may be used in this store. */
export type Owns = (session: Session) => boolean;

/** A transaction that `checkTxn` has passed. @throws {InvalidError} for sessions of another store. */
export function encodeTxn(request: TxnRequest, keyspace: Keyspace, owns: Owns): ITxnRequest {
  const { or = [], else: otherwise = [] } = request;
  let failure = encodeBranch(otherwise, keyspace, owns);
  for (const step of or.toReversed()) {
    failure = [{ request_txn: encodeStep(step, failure, keyspace, owns) }];
  }
  return encodeStep(request, failure, keyspace, owns);
}

function encodeStep(step: TxnStep, failure: IRequestOp[], keyspace: Keyspace, owns: Owns): ITxnRequest {
  const { if: compares = [], then = [] } = step;
  return {
    compare: compares.map((compare) => encodeCompare(compare, keyspace)),
    success: encodeBranch(then, keyspace, owns),
    failure,
  };
}

export function decodeTxn(response: ITxnResponse, request: TxnRequest, keyspace: Keyspace): TxnResult {
  const steps = 1 + (request.or?.length ?? 0);
  let [{ succeeded, responses }, step] = [response, 0];
  while (!succeeded) {
    step += 1;
    if (step === steps) break;
    ({ succeeded, responses } = nestedIn(responses));
  }
  return {
    succeeded,
    step,
    revision: Number(response.header.revision),
    reads: responses.flatMap(({ response_range: range }) => {
      if (!range) return [];
      const [kv] = range.kvs;
      return [kv === undefined ? undefined : keyspace.entry(kv)];
    }),
  };
}

/** The answer of a step stands in that of the step before it, and has no header. */
function nestedIn([response]: readonly IResponseOp[]): ITxnResponse {
  if (response?.response_txn) return response.response_txn;
  throw new Error("etcd has answered a transaction without what it holds");
}

function encodeCompare(compare: Compare, keyspace: Keyspace): ICompare {
  const key = keyspace.full(compare.key);
  if ("exists" in compare) {
    return { key, target: "Create", result: compare.exists ? "Greater" : "Equal", create_revision: 0 };
  }
  // For etcd an absent key has revision 0, for the port it has none: 0 must not hold. Nothing is below 0.
  if ("createRevision" in compare) {
    const { createRevision } = compare;
    const result = createRevision === 0 ? "Less" : "Equal";
    return { key, target: "Create", result, create_revision: String(createRevision) };
  }
  if ("modRevision" in compare) {
    const { modRevision } = compare;
    const result = modRevision === 0 ? "Less" : "Equal";
    return { key, target: "Mod", result, mod_revision: String(modRevision) };
  }
  return { key, target: "Value", result: "Equal", value: Buffer.from(compare.value) };
}

function encodeBranch(operations: readonly Operation[], keyspace: Keyspace, owns: Owns): IRequestOp[] {
  const reads: IRequestOp[] = [];
  const writes: IRequestOp[] = [];
  for (const operation of operations) {
    if ("get" in operation) {
      reads.push({ request_range: { key: keyspace.full(operation.get) } });
    } else if ("delete" in operation) {
      writes.push({ request_delete_range: { key: keyspace.full(operation.delete) } });
    } else {
      const { put, value, session } = operation;
      if (session && !owns(session)) {
        throw new InvalidError(`${put} is to be tied to session ${session.id}, which is not of this store`);
      }
      const lease = session ? { lease: session.id } : {};
      writes.push({ request_put: { key: keyspace.full(put), value: Buffer.from(value), ...lease } });
    }
  }
  // etcd carries out a branch in order and reads its own writes: reads first see the state before it.
  return [...reads, ...writes];
}
