import {
  type Compare,
  InvalidError,
  type Operation,
  type TxnRequest,
  type TxnResult,
} from "@cocoon-net/core";
import type { ICompare, IRequestOp, ITxnRequest, ITxnResponse } from "etcd3";
import type { Keyspace } from "./keyspace.ts";
import { EtcdSession } from "./session.ts";

/** etcd's defaults: `--max-txn-ops`, and `--max-request-bytes` (1.5 MiB) less room for the rest of a request. */
export const limits: { readonly maxOperations: number; readonly maxValueBytes: number } = {
  maxOperations: 128,
  maxValueBytes: 1_468_006,
};

/** Whether a session may be used in this store. */
export type Owns = (session: EtcdSession) => boolean;

/** @throws {InvalidError} for what the server would refuse, and for sessions that are over or of another store. */
export function encodeTxn(request: TxnRequest, keyspace: Keyspace, owns: Owns): ITxnRequest {
  const compares = request.if ?? [];
  if (compares.length > limits.maxOperations) {
    throw new InvalidError(
      `a transaction has ${compares.length} compares, etcd takes ${limits.maxOperations}`,
    );
  }
  return {
    compare: compares.map((compare) => encodeCompare(compare, keyspace)),
    success: encodeBranch(request.then ?? [], keyspace, owns),
    failure: encodeBranch(request.else ?? [], keyspace, owns),
  };
}

export function writesAnything({ success = [], failure = [] }: ITxnRequest): boolean {
  return [...success, ...failure].some((operation) => operation.request_range === undefined);
}

export function decodeTxn(response: ITxnResponse, keyspace: Keyspace): TxnResult {
  return {
    succeeded: response.succeeded,
    revision: Number(response.header.revision),
    reads: response.responses.flatMap(({ response_range: range }) => {
      if (!range) return [];
      const [kv] = range.kvs;
      return [kv === undefined ? undefined : keyspace.entry(kv)];
    }),
  };
}

function encodeCompare(compare: Compare, keyspace: Keyspace): ICompare {
  const key = keyspace.full(compare.key);
  if ("exists" in compare) {
    return { key, target: "Create", result: compare.exists ? "Greater" : "Equal", create_revision: 0 };
  }
  if ("createRevision" in compare) {
    return { key, target: "Create", result: "Equal", create_revision: String(compare.createRevision) };
  }
  if ("modRevision" in compare) {
    return { key, target: "Mod", result: "Equal", mod_revision: String(compare.modRevision) };
  }
  return { key, target: "Value", result: "Equal", value: Buffer.from(compare.value) };
}

function encodeBranch(operations: readonly Operation[], keyspace: Keyspace, owns: Owns): IRequestOp[] {
  if (operations.length > limits.maxOperations) {
    throw new InvalidError(
      `a transaction has ${operations.length} operations in one branch, etcd takes ${limits.maxOperations}`,
    );
  }
  const written = new Set<string>();
  const reads: IRequestOp[] = [];
  const writes: IRequestOp[] = [];
  const claim = (key: string) => {
    if (written.has(key)) throw new InvalidError(`a transaction writes ${key} twice in one branch`);
    written.add(key);
    return keyspace.full(key);
  };
  for (const operation of operations) {
    if ("get" in operation) {
      reads.push({ request_range: { key: keyspace.full(operation.get) } });
    } else if ("delete" in operation) {
      writes.push({ request_delete_range: { key: claim(operation.delete) } });
    } else {
      const key = claim(operation.put);
      writes.push({ request_put: { key, value: encodeValue(operation), ...encodeLease(operation, owns) } });
    }
  }
  // etcd carries out a branch in order and reads its own writes: reads first see the state before it.
  return [...reads, ...writes];
}

type Put = Extract<Operation, { readonly put: string }>;

function encodeValue({ put, value }: Put): Buffer {
  const bytes = Buffer.from(value);
  if (bytes.length > limits.maxValueBytes) {
    throw new InvalidError(
      `the value of ${put} has ${bytes.length} bytes, etcd takes ${limits.maxValueBytes} at most`,
    );
  }
  return bytes;
}

function encodeLease({ put, session }: Put, owns: Owns): { lease?: string } {
  if (session === undefined) return {};
  if (!(session instanceof EtcdSession) || !owns(session)) {
    throw new InvalidError(`${put} is to be tied to session ${session.id}, which is not of this store`);
  }
  if (session.signal.aborted) {
    throw new InvalidError(`${put} is to be tied to session ${session.id}, which is over`, {
      hint: "open a new session",
    });
  }
  return { lease: session.id };
}
