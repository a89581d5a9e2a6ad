import { randomBytes } from "node:crypto";
import type { FaultRule, Faults } from "../faults.ts";
import type { HttpRequest } from "../http-listener.ts";
import type { VolcengineAccount } from "./account.ts";
import { ApiFault, gatewayFault, refuse } from "./api-fault.ts";
import * as eni from "./eni-actions.ts";
import * as instance from "./instance-actions.ts";
import { RequestParameters } from "./request-parameters.ts";
import { type AccessKey, decodeQuery, readScope, verifySignature } from "./signature.ts";
import * as subnet from "./subnet-actions.ts";

type Handler = (account: VolcengineAccount, params: RequestParameters) => Record<string, unknown>;

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
    TagResources: eni.tagResources,
    UnassignPrivateIpAddresses: eni.unassignPrivateIpAddresses,
  },
  ecs: {
    DescribeInstances: instance.describeInstances,
    DescribeInstanceTypes: instance.describeInstanceTypes,
  },
};

/** The ones that take a ClientToken (facts §2.12). */
const idempotentActions = new Set([
  "AssignPrivateIpAddresses",
  "CreateNetworkInterface",
  "CreateSubnet",
  "UnassignPrivateIpAddresses",
]);

export interface ApiAnswer {
  readonly httpStatus: number;
  /** Sent as JSON; a string is sent as HTML. */
  readonly body: unknown;
  /** What happens to the answer instead of being sent. */
  readonly lost?: "closed" | "hang";
}

/** From an HTTP request to an answer: gateway checks, throttling, idempotency, faults, then the action. */
export class VolcengineApi {
  readonly #account: VolcengineAccount;
  readonly #accessKeys: readonly AccessKey[];
  readonly #faults: Faults;
  readonly #calls = new Map<string, number>();
  readonly #tokens = new Map<string, { parameters: string; result: Record<string, unknown> }>();
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  constructor(account: VolcengineAccount, accessKeys: readonly AccessKey[], faults: Faults) {
    this.#account = account;
    this.#accessKeys = accessKeys;
    this.#faults = faults;
  }

  /** Requests by action, refused ones included. */
  get calls(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#calls);
  }

  answer(request: HttpRequest): ApiAnswer {
    const query = new Map<string, string>();
    let service = "";
    let fault: FaultRule["kind"] | undefined;
    const metadata = (extra: Record<string, unknown>): Record<string, unknown> => ({
      RequestId: randomBytes(16).toString("hex").toUpperCase(),
      Action: query.get("Action") ?? "",
      Version: query.get("Version") ?? "",
      Service: service,
      Region: this.#account.region,
      ...extra,
    });
    try {
      for (const [key, value] of decodeQuery(request.rawQuery)) {
        // What an unflattened array looks like (facts §1.2).
        if (query.has(key)) throw refuse("InvalidParameter", `The parameter ${key} is repeated.`);
        query.set(key, value);
      }
      const action = query.get("Action");
      const version = query.get("Version");
      if (!action || !version) throw gatewayFault("MissingRequestInfo", "Action or Version is missing.");
      this.#calls.set(action, (this.#calls.get(action) ?? 0) + 1);

      const scope = readScope(request.headers);
      service = scope.service;
      const handlers = services[service];
      if (handlers === undefined) throw gatewayFault("ServiceNotFound", `No service ${service}.`);
      const handler = handlers[action];
      if (handler === undefined || version !== "2020-04-01") {
        throw gatewayFault("InvalidActionOrVersion", `No action ${action} ${version} in ${service}.`);
      }
      // All actions are GET (facts §2).
      if (request.method !== "GET")
        throw gatewayFault("MethodNotAllowed", `${request.method} is not allowed.`);
      verifySignature(request, scope, this.#accessKeys, {
        nowMs: this.#account.clock.now(),
        skewMs: this.#account.limits.clockSkewMs,
      });
      if (scope.region !== this.#account.region) {
        throw new ApiFault(400, "InvalidCredential", `The region ${scope.region} is not served here.`);
      }
      this.#throttle(action);
      fault = this.#faults.take(action);
      if (fault === "hang") return { httpStatus: 0, body: undefined, lost: "hang" };
      if (fault === "error5xx") return { httpStatus: 502, body: "<html><body>502 Bad Gateway</body></html>" };
      if (fault === "throttle") {
        const text = "Request speed exceeds the account flow control limit.";
        throw new ApiFault(429, "AccountFlowLimitExceeded", text, 100027);
      }

      query.delete("Action");
      query.delete("Version");
      const result = this.#run(action, handler, query);
      query.set("Action", action);
      query.set("Version", version);
      const shown = fault === "empty-list" ? emptied(result) : result;
      const body = { ResponseMetadata: metadata({}), Result: shown };
      return { httpStatus: 200, body, ...(fault === "lost-answer" ? { lost: "closed" as const } : {}) };
    } catch (error) {
      if (!(error instanceof ApiFault)) throw error;
      const { codeN, code, message } = error;
      const shown =
        codeN === undefined
          ? { Code: code, Message: message }
          : { CodeN: codeN, Code: code, Message: message };
      return { httpStatus: error.httpStatus, body: { ResponseMetadata: metadata({ Error: shown }) } };
    }
  }

  /** Same token, same parameters: the first result again. Same token, others: refused (facts §2.12). */
  #run(action: string, handler: Handler, query: Map<string, string>): Record<string, unknown> {
    const token = idempotentActions.has(action) ? query.get("ClientToken") : undefined;
    if (token === undefined) return handler(this.#account, new RequestParameters(query));
    query.delete("ClientToken");
    const parameters = JSON.stringify([...query].sort(([a], [b]) => (a < b ? -1 : 1)));
    const earlier = this.#tokens.get(`${action} ${token}`);
    if (earlier?.parameters === parameters) return earlier.result;
    if (earlier !== undefined) {
      throw refuse("IdempotentParameterMismatch", "The ClientToken was used with other parameters.");
    }
    const result = handler(this.#account, new RequestParameters(query));
    this.#tokens.set(`${action} ${token}`, { parameters, result });
    return result;
  }

  /** One bucket for reads and one for writes, shared by the whole account (facts §3.1). */
  #throttle(action: string): void {
    const { limits, clock } = this.#account;
    const kind = action.startsWith("Describe") ? "reads" : "writes";
    const rate = limits[kind];
    if (rate === undefined) return;
    const now = clock.now();
    const bucket = this.#buckets.get(kind) ?? { tokens: rate.burst, at: now };
    const refill = ((now - bucket.at) / 1000) * rate.perSecond;
    const tokens = Math.min(rate.burst, bucket.tokens + refill);
    this.#buckets.set(kind, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now });
    if (tokens < 1) throw gatewayFault("FlowLimitExceeded", `Too many ${kind} per second.`);
  }
}

/** A list action's result without its items. */
function emptied(result: Record<string, unknown>): Record<string, unknown> {
  const fields = Object.entries(result).map(([name, value]) => {
    if (Array.isArray(value)) return [name, []];
    return [name, name === "NextToken" ? "" : name === "TotalCount" ? 0 : value];
  });
  return Object.fromEntries(fields);
}
