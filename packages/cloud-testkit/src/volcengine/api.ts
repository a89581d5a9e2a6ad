import { randomBytes } from "node:crypto";
import type { CallLog } from "../call-log.ts";
import type { Fault, Faults } from "../faults.ts";
import type { HttpAnswer, HttpRequest } from "../http-listener.ts";
import { TokenBucket } from "../rate-limit.ts";
import type { VolcengineAccess } from "./access.ts";
import type { VolcengineAccount } from "./account.ts";
import { ApiFault, gatewayFault, refuse, throttleFault } from "./api-fault.ts";
import * as eni from "./eni-actions.ts";
import * as instance from "./instance-actions.ts";
import { RequestParameters } from "./request-parameters.ts";
import { decodeQuery, readScope, verifySignature } from "./signature.ts";
import * as subnet from "./subnet-actions.ts";
import * as tag from "./tag-actions.ts";

type Result = Record<string, unknown>;
type Handler = (account: VolcengineAccount, params: RequestParameters) => Result;

const services: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
  vpc: {
    AssignPrivateIpAddresses: eni.assignPrivateIpAddresses,
    AttachNetworkInterface: eni.attachNetworkInterface,
    CreateNetworkInterface: eni.createNetworkInterface,
    CreateSubnet: subnet.createSubnet,
    DeleteNetworkInterface: eni.deleteNetworkInterface,
    DeleteSubnet: subnet.deleteSubnet,
    DescribeNetworkInterfaceAttributes: eni.describeNetworkInterfaceAttributes,
    DescribeNetworkInterfaces: eni.describeNetworkInterfaces,
    DescribeSecurityGroups: subnet.describeSecurityGroups,
    DescribeSubnetAttributes: subnet.describeSubnetAttributes,
    DescribeSubnets: subnet.describeSubnets,
    DescribeVpcs: subnet.describeVpcs,
    DetachNetworkInterface: eni.detachNetworkInterface,
    ListTagsForResources: tag.listTagsForResources,
    TagResources: tag.tagResources,
    UnassignPrivateIpAddresses: eni.unassignPrivateIpAddresses,
    UntagResources: tag.untagResources,
  },
  ecs: {
    DescribeInstances: instance.describeInstances,
    DescribeInstanceTypes: instance.describeInstanceTypes,
  },
};

export const actionNames: ReadonlySet<string> = new Set(Object.values(services).flatMap(Object.keys));

/** Whether an action changes nothing. */
export function isRead(action: string): boolean {
  return action.startsWith("Describe") || action.startsWith("List");
}

/** The ones that take a ClientToken (facts §2.12). */
const idempotentActions = new Set([
  "AssignPrivateIpAddresses",
  "CreateNetworkInterface",
  "CreateSubnet",
  "UnassignPrivateIpAddresses",
]);

/** The lists of requests for several things, and their count (the fault `half-done`). */
const batchParameters = ["PrivateIpAddress", "ResourceIds"] as const;
const batchCount = "SecondaryPrivateIpAddressCount";

interface Answered {
  readonly action: string;
  readonly result: string;
  readonly answer: HttpAnswer;
}

export interface VolcengineApiOptions {
  readonly access: VolcengineAccess;
  readonly faults: Faults;
  readonly calls: CallLog;
}

/** From an HTTP request to an answer: gateway checks, throttling, faults, idempotency, then the action. */
export class VolcengineApi {
  readonly #account: VolcengineAccount;
  readonly #access: VolcengineAccess;
  readonly #faults: Faults;
  readonly #calls: CallLog;
  readonly #tokens = new Map<string, { parameters: string; result: Result; until: number }>();
  readonly #buckets: ReadonlyMap<string, TokenBucket>;

  constructor(account: VolcengineAccount, { access, faults, calls }: VolcengineApiOptions) {
    this.#account = account;
    this.#access = access;
    this.#faults = faults;
    this.#calls = calls;
    const { reads, writes, actions } = account.limits;
    const rates = Object.entries({ reads, writes, ...actions });
    this.#buckets = new Map(
      rates.flatMap(([name, rate]) =>
        rate === undefined ? [] : [[name, new TokenBucket(rate, account.clock)] as const],
      ),
    );
  }

  answer(request: HttpRequest): HttpAnswer {
    const { action, result, answer } = this.#answer(request);
    if (action !== "") this.#calls.ended(action, result);
    return answer;
  }

  #answer(request: HttpRequest): Answered {
    const query = new Map<string, string>();
    let action = "";
    let service = "";
    const metadata = (extra: Result): Result => ({
      RequestId: randomBytes(16).toString("hex").toUpperCase(),
      Action: action,
      Version: query.get("Version") ?? "",
      Service: service,
      Region: this.#account.region,
      ...extra,
    });
    let fault: Fault | undefined;
    let answered: Answered;
    try {
      for (const [key, value] of decodeQuery(request.rawQuery)) {
        // What an unflattened array looks like (facts §1.2).
        if (query.has(key)) throw refuse("InvalidParameter", `The parameter ${key} is repeated.`);
        query.set(key, value);
      }
      action = query.get("Action") ?? "";
      if (action === "" || !query.get("Version")) {
        throw gatewayFault("MissingRequestInfo", "Action or Version is missing.");
      }
      this.#calls.arrived(action);
      service = readScope(request.headers).service;
      const handler = this.#admit(request, action, query);
      fault = this.#faults.take(action);
      const early = this.#fail(fault, action);
      if (early !== undefined) return early;
      const parameters = new Map(query);
      parameters.delete("Action");
      parameters.delete("Version");
      const result = this.#runWith(fault, action, handler, parameters);
      answered = {
        action,
        result: "ok",
        answer: { httpStatus: 200, body: { ResponseMetadata: metadata({}), Result: result } },
      };
    } catch (error) {
      if (!(error instanceof ApiFault)) throw error;
      answered = { action, result: error.code, answer: this.#refusal(error, metadata) };
    }
    switch (fault?.kind) {
      case "lost-answer":
        return { action, result: "lost", answer: { ...answered.answer, lost: "closed" } };
      case "late-hang":
        return { action, result: "hang", answer: { ...answered.answer, lost: "hang" } };
    }
    return answered;
  }

  /** Gateway checks and throttling. */
  #admit(request: HttpRequest, action: string, query: ReadonlyMap<string, string>): Handler {
    const scope = readScope(request.headers);
    const handlers = services[scope.service];
    if (handlers === undefined) throw gatewayFault("ServiceNotFound", `No service ${scope.service}.`);
    const handler = handlers[action];
    const version = query.get("Version");
    if (handler === undefined || version !== "2020-04-01") {
      throw gatewayFault("InvalidActionOrVersion", `No action ${action} ${version} in ${scope.service}.`);
    }
    // All actions are GET (facts §2).
    if (request.method !== "GET") throw gatewayFault("MethodNotAllowed", `${request.method} is not allowed.`);
    verifySignature(request, scope, (id) => this.#access.find(id), {
      nowMs: this.#account.clock.now(),
      skewMs: this.#account.limits.clockSkewMs,
    });
    if (scope.region !== this.#account.region) {
      throw new ApiFault(400, "InvalidCredential", `The region ${scope.region} is not served here.`);
    }
    this.#throttle(action);
    this.#access.requirePermission(scope.service, action);
    return handler;
  }

  /** One bucket for reads and one for writes, shared by the whole account, and those of single actions (facts §3.1). */
  #throttle(action: string): void {
    const kind = isRead(action) ? "reads" : "writes";
    const own = this.#buckets.get(action)?.take() ?? 0;
    if (own > 0) throw this.#throttled("AccountFlowLimitExceeded", own);
    const waitMs = this.#buckets.get(kind)?.take() ?? 0;
    if (waitMs > 0) throw this.#throttled("FlowLimitExceeded", waitMs);
  }

  #throttled(code: "FlowLimitExceeded" | "AccountFlowLimitExceeded", waitMs: number): ApiFault {
    const { throttleStatus, retryAfter } = this.#account.behaviour;
    return throttleFault(code, "Request speed exceeds the account flow control limit.", {
      httpStatus: throttleStatus,
      retryAfterSeconds: retryAfter ? Math.ceil(waitMs / 1000) : undefined,
    });
  }

  /** The faults that come before anything is done. */
  #fail(fault: Fault | undefined, action: string): Answered | undefined {
    switch (fault?.kind) {
      case "hang":
        return { action, result: "hang", answer: { httpStatus: 0, body: "", lost: "hang" } };
      case "error5xx":
        return {
          action,
          result: "502",
          answer: {
            httpStatus: 502,
            body: "<html><body>502 Bad Gateway</body></html>",
            headers: { "content-type": "text/html" },
          },
        };
      case "throttle": {
        const { throttleStatus } = this.#account.behaviour;
        throw throttleFault(
          "AccountFlowLimitExceeded",
          "Request speed exceeds the account flow control limit.",
          { httpStatus: throttleStatus, retryAfterSeconds: fault.retryAfterSeconds },
        );
      }
      case "refuse":
        throw refuse(fault.code ?? "InternalError", `${action} was refused.`);
    }
    return undefined;
  }

  #runWith(
    fault: Fault | undefined,
    action: string,
    handler: Handler,
    parameters: Map<string, string>,
  ): Result {
    const account = this.#account;
    if (isRead(action)) {
      const { listLagMs } = account.delays;
      const lagging = listLagMs > 0 ? account.asOf({ ms: account.clock.now() - listLagMs }) : account;
      const view = fault?.kind === "stale-list" ? account.asOf(staleMoment(fault, account)) : lagging;
      const result = handler(view, new RequestParameters(parameters));
      return fault?.kind === "empty-list" ? emptied(result) : result;
    }
    switch (fault?.kind) {
      case "fails-later":
        return account.failing(() => this.#run(action, handler, parameters));
      case "late-5xx":
        this.#run(action, handler, parameters);
        throw gatewayFault("InternalServiceTimeout", "The service did not answer in time.");
      case "half-done": {
        const half = halfOf(parameters);
        half?.delete("ClientToken");
        if (half !== undefined) handler(account, new RequestParameters(half));
        throw gatewayFault("InternalError", "The request failed halfway.");
      }
    }
    return this.#run(action, handler, parameters);
  }

  /** Same token, same parameters: the first result again. Same token, others: refused (facts §2.12). */
  #run(action: string, handler: Handler, query: Map<string, string>): Result {
    const token = idempotentActions.has(action) ? query.get("ClientToken") : undefined;
    if (token === undefined) return handler(this.#account, new RequestParameters(query));
    query.delete("ClientToken");
    const parameters = JSON.stringify([...query].sort(([a], [b]) => (a < b ? -1 : 1)));
    const key = `${action} ${token}`;
    const now = this.#account.clock.now();
    const earlier = this.#tokens.get(key);
    if (earlier !== undefined && earlier.until > now) {
      if (earlier.parameters === parameters) return earlier.result;
      throw refuse("IdempotentParameterMismatch", "The ClientToken was used with other parameters.");
    }
    const result = handler(this.#account, new RequestParameters(query));
    this.#tokens.set(key, { parameters, result, until: now + this.#account.delays.clientTokenMs });
    return result;
  }

  #refusal(
    { code, codeN, message, httpStatus, retryAfterSeconds }: ApiFault,
    metadata: (extra: Result) => Result,
  ): HttpAnswer {
    const headers: Record<string, string> =
      retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) };
    if (codeN !== undefined && this.#account.behaviour.gatewayErrors === "flat") {
      return {
        httpStatus,
        body: { HTTPCode: httpStatus, errorcode: code, message },
        headers,
      };
    }
    const shown = { ...(codeN === undefined ? {} : { CodeN: codeN }), Code: code, Message: message };
    return { httpStatus, body: { ResponseMetadata: metadata({ Error: shown }) }, headers };
  }
}

function staleMoment(fault: Fault, account: VolcengineAccount): Fault["madeAt"] {
  return fault.staleMs === undefined ? fault.madeAt : { ms: account.clock.now() - fault.staleMs };
}

/** A list action's result without its items. */
function emptied(result: Result): Result {
  const fields = Object.entries(result).map(([name, value]) => {
    if (Array.isArray(value)) return [name, []];
    return [name, name === "NextToken" ? "" : name === "TotalCount" ? 0 : value];
  });
  return Object.fromEntries(fields);
}

/** The request for the first half of what is asked for; undefined when that is nothing. */
function halfOf(parameters: ReadonlyMap<string, string>): Map<string, string> | undefined {
  const half = new Map(parameters);
  const count = Number(half.get(batchCount) ?? 0);
  if (count > 1) return half.set(batchCount, String(Math.floor(count / 2)));
  for (const name of batchParameters) {
    const size = [...half.keys()].filter((key) => key.startsWith(`${name}.`)).length;
    for (let n = Math.floor(size / 2) + 1; n <= size; n++) half.delete(`${name}.${n}`);
    if (size > 1) return half;
  }
  return undefined;
}
