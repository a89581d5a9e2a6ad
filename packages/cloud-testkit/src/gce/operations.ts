import { MinuteBucket } from "../rate-limit.ts";
import { GceFault, notFound, staleFingerprint } from "./gce-fault.ts";
import type { GceProject } from "./project.ts";
import type { GceOperation, GceOperationError } from "./state.ts";

type Scope = GceOperation["scope"];

export interface OperationRequest {
  readonly type: string;
  readonly scope: Scope;
  readonly targetLink: string;
  readonly targetID: string;
  /** Query parameter `requestId`. */
  readonly requestID: string | undefined;
  /** The request's body, as text: a repeated requestId must come with the same. */
  readonly body: string;
}

/** Long-running operations (facts §1.5): PENDING → RUNNING → DONE, with the error inside. */
export class GceOperations {
  readonly #project: GceProject;
  readonly #requests = new Map<string, { readonly name: string; readonly body: string }>();
  readonly #buckets = new Map<string, MinuteBucket>();
  readonly #waiting = new Map<string, Set<() => void>>();
  #sequence = 0;

  constructor(project: GceProject) {
    this.#project = project;
  }

  /**
   * The operation that an earlier request with the same id has started: the repeat changes nothing (facts §2.1).
   * A malformed id is refused, as is one that is used for something else: the vendor does not say what becomes of
   * that, and a client that does it is wrong.
   */
  replay(request: OperationRequest): GceOperation | undefined {
    const { requestID } = request;
    if (requestID === undefined) return undefined;
    const wellFormed = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(requestID);
    if (!wellFormed || /^[0-]+$/.test(requestID)) {
      throw new GceFault("invalid", `Invalid value for field 'requestId': '${requestID}'. Must be a UUID.`);
    }
    const known = this.#requests.get(requestID);
    if (known === undefined) return undefined;
    if (known.body !== bodyKey(request)) {
      throw new GceFault("invalid", `The requestId '${requestID}' was used for another request.`);
    }
    return this.#project.operations.get(known.name);
  }

  /** @throws resourceNotReady while another operation works on the same resource (facts §1.6) */
  requireIdle(targetID: string, path: string): void {
    for (const operation of this.#project.operations.values()) {
      if (operation.targetID !== targetID || operation.status === "DONE") continue;
      if (this.#project.behaviour.busyStatus === 412) throw staleFingerprint();
      throw new GceFault("resourceNotReady", `The resource '${path}' is not ready`);
    }
  }

  /** @throws RESOURCE_OPERATION_RATE_EXCEEDED (facts §3) */
  spend(targetID: string): void {
    const { limits, clock } = this.#project;
    const limit = limits.changesPerResourcePerMinute;
    if (limit === undefined) return;
    const bucket = this.#buckets.get(targetID) ?? new MinuteBucket(limit, limits.minuteMs, clock);
    this.#buckets.set(targetID, bucket);
    if (bucket.take() === 0) return;
    const info = { "@type": "type.googleapis.com/google.rpc.ErrorInfo", domain: "compute.googleapis.com" };
    throw new GceFault(
      "rateLimitExceeded",
      "Operation rate exceeded for the resource. Too frequent operations.",
      {
        details: [{ ...info, reason: "RESOURCE_OPERATION_RATE_EXCEEDED" }],
      },
    );
  }

  /** An operation that the platform itself has done, e.g. a preemption. */
  record(type: string, scope: Scope, target: { readonly link: string; readonly id: string }): void {
    const now = this.#project.clock.now();
    this.#project.putOperation({
      id: this.#project.newID(),
      name: `systemevent-${now}-${String(++this.#sequence).padStart(6, "0")}`,
      type,
      scope,
      targetLink: target.link,
      targetID: target.id,
      status: "DONE",
      error: undefined,
      startedAt: now,
      endedAt: now,
    });
  }

  /** @param apply runs when the operation ends, and says what went wrong */
  start(request: OperationRequest, apply: () => GceOperationError | undefined): GceOperation {
    const project = this.#project;
    const now = project.clock.now();
    const name = `operation-${now}-${String(++this.#sequence).padStart(6, "0")}`;
    const { type, scope, targetLink, targetID, requestID } = request;
    const pending: GceOperation = {
      id: project.newID(),
      name,
      type,
      scope,
      targetLink,
      targetID,
      status: "PENDING",
      error: undefined,
      startedAt: now,
      endedAt: undefined,
    };
    project.putOperation(pending);
    if (requestID !== undefined) this.#requests.set(requestID, { name, body: bodyKey(request) });
    project.later(project.delays.pendingMs, () => {
      project.putOperation({ ...pending, status: "RUNNING" });
      project.later(project.delays.operationMs, () => {
        const error = apply();
        project.putOperation({ ...pending, status: "DONE", error, endedAt: project.clock.now() });
        for (const wake of this.#waiting.get(name) ?? []) wake();
        this.#waiting.delete(name);
        project.later(project.delays.retentionMs, () => project.dropOperation(name));
      });
    });
    return pending;
  }

  /** By name or numeric id (facts §1.2). */
  get(scope: Scope, nameOrID: string): GceOperation {
    for (const operation of this.#project.operations.values()) {
      if (operation.scope.kind !== scope.kind || operation.scope.name !== scope.name) continue;
      if (operation.name === nameOrID || operation.id === nameOrID) return operation;
    }
    throw notFound(`projects/${this.#project.project}/${scope.kind}/${scope.name}/operations/${nameOrID}`);
  }

  /** Answers when it is DONE, or with what there is after `waitMs`. */
  async wait(scope: Scope, nameOrID: string): Promise<GceOperation> {
    const { name, status } = this.get(scope, nameOrID);
    if (status !== "DONE") {
      await new Promise<void>((resolve) => {
        const waiting = this.#waiting.get(name) ?? new Set();
        this.#waiting.set(name, waiting.add(resolve));
        this.#project.later(this.#project.delays.waitMs, resolve);
      });
    }
    return this.get(scope, name);
  }

  list(scope: Scope): GceOperation[] {
    return [...this.#project.operations.values()].filter(
      (operation) => operation.scope.kind === scope.kind && operation.scope.name === scope.name,
    );
  }
}

function bodyKey({ type, targetID, body }: OperationRequest): string {
  return JSON.stringify([type, targetID, body]);
}
