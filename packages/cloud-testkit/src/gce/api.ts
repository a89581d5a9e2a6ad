import type { CallLog } from "../call-log.ts";
import type { Fault, Faults } from "../faults.ts";
import type { HttpAnswer, HttpRequest } from "../http-listener.ts";
import { MinuteBucket } from "../rate-limit.ts";
import type { GceAccess } from "./access.ts";
import { GceFault, invalidField, isFaultReason, notFound } from "./gce-fault.ts";
import * as methods from "./methods.ts";
import type { GceOperations } from "./operations.ts";
import type { GceProject } from "./project.ts";

interface Route {
  /** As in the reference: `instances.get`. */
  readonly method: string;
  readonly permission: string;
  readonly http: "GET" | "PATCH" | "POST";
  /** After `projects/{project}/`; groups: place, name. */
  readonly path: RegExp;
  readonly run: (call: methods.MethodCall) => methods.Json | Promise<methods.Json>;
}

function route(
  method: string,
  http: Route["http"],
  path: string,
  run: Route["run"],
  permission = `compute.${method}`,
): Route {
  const pattern = path.replaceAll("{place}", "(?<place>[^/]+)").replace("{name}", "(?<name>[^/]+)");
  return { method, permission, http, path: new RegExp(`^${pattern}$`), run };
}

/** Facts §1.2. */
const routes: readonly Route[] = [
  route("instances.get", "GET", "zones/{place}/instances/{name}", methods.getInstance),
  route("instances.list", "GET", "zones/{place}/instances", methods.listInstances),
  route(
    "instances.aggregatedList",
    "GET",
    "aggregated/instances",
    methods.aggregatedInstances,
    "compute.instances.list",
  ),
  route(
    "instances.updateNetworkInterface",
    "PATCH",
    "zones/{place}/instances/{name}/updateNetworkInterface",
    methods.updateNetworkInterface,
  ),
  route("subnetworks.get", "GET", "regions/{place}/subnetworks/{name}", methods.getSubnetwork),
  route(
    "subnetworks.patch",
    "PATCH",
    "regions/{place}/subnetworks/{name}",
    methods.patchSubnetwork,
    "compute.subnetworks.update",
  ),
  ...(["zones", "regions"] as const).flatMap((kind) => {
    const service = kind === "zones" ? "zoneOperations" : "regionOperations";
    const one = `${kind}/{place}/operations/{name}`;
    return [
      route(`${service}.get`, "GET", one, methods.getOperation(kind)),
      route(`${service}.wait`, "POST", `${one}/wait`, methods.waitOperation(kind), `compute.${service}.get`),
      route(`${service}.list`, "GET", `${kind}/{place}/operations`, methods.listOperations(kind)),
    ];
  }),
];

const writes: ReadonlySet<string> = new Set(["instances.updateNetworkInterface", "subnetworks.patch"]);

/** Whether a method changes nothing. */
export function isRead(method: string): boolean {
  return !writes.has(method);
}

export const methodNames: ReadonlySet<string> = new Set(routes.map(({ method }) => method));

type RateClass = "reads" | "writes" | "lists" | "operationReads" | "waits";

/** What the older accounting counts apart (facts §3); the newer one knows reads and writes. */
function classOf(method: string): RateClass {
  if (writes.has(method)) return "writes";
  if (method.endsWith("Operations.wait")) return "waits";
  if (method.endsWith("Operations.get")) return "operationReads";
  return /\.(list|aggregatedList)$/.test(method) ? "lists" : "reads";
}

export interface GceApiOptions {
  readonly operations: GceOperations;
  readonly access: GceAccess;
  readonly faults: Faults;
  readonly calls: CallLog;
}

/** From an HTTP request to an answer: access, rate limits, faults, then the method. */
export class GceApi {
  readonly #project: GceProject;
  readonly #operations: GceOperations;
  readonly #access: GceAccess;
  readonly #faults: Faults;
  readonly #calls: CallLog;
  readonly #buckets: Readonly<Record<RateClass | "requests", MinuteBucket | undefined>>;

  constructor(project: GceProject, { operations, access, faults, calls }: GceApiOptions) {
    this.#project = project;
    this.#operations = operations;
    this.#access = access;
    this.#faults = faults;
    this.#calls = calls;
    const { limits, clock } = project;
    const bucket = (limit: number | undefined) =>
      limit === undefined ? undefined : new MinuteBucket(limit, limits.minuteMs, clock);
    const reads = bucket(limits.readsPerMinute);
    this.#buckets = {
      requests: bucket(limits.requestsPerMinute),
      reads,
      writes: bucket(limits.writesPerMinute),
      lists: bucket(limits.listsPerMinute) ?? reads,
      operationReads: bucket(limits.operationReadsPerMinute) ?? reads,
      waits: bucket(limits.waitsPerMinute) ?? reads,
    };
  }

  async answer(request: HttpRequest): Promise<HttpAnswer> {
    let fault: Fault | undefined;
    let method = "";
    let answer: HttpAnswer;
    let result = "ok";
    try {
      const { found, project, place, name } = find(request);
      method = found.method;
      this.#calls.arrived(method);
      const path = decodeURIComponent(request.path).replace("/compute/v1/", "");
      this.#access.check(request, found.permission, path.replace(/\/(updateNetworkInterface|wait)$/, ""));
      this.#spend(method);
      this.#checkPlace(found, project, place);

      fault = this.#faults.take(method);
      const early = this.#fail(fault, method);
      if (early !== undefined) return early;
      const rawBody = request.body.toString();
      const body = await found.run({
        project: this.#view(method, fault),
        operations: this.#operations,
        place,
        name,
        query: new Map(new URLSearchParams(request.rawQuery)),
        body: parseBody(rawBody),
        rawBody,
        fault,
      });
      if (fault?.kind === "late-5xx") throw new GceFault("backendError", "Backend Error");
      answer = { httpStatus: 200, body };
    } catch (error) {
      if (!(error instanceof GceFault)) throw error;
      const { httpStatus, body, reason, retryAfterSeconds } = error;
      const headers: Record<string, string> =
        retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) };
      answer = { httpStatus, body, headers };
      result = reason;
    }
    if (fault?.kind === "lost-answer") [answer, result] = [{ ...answer, lost: "closed" }, "lost"];
    if (fault?.kind === "late-hang") [answer, result] = [{ ...answer, lost: "hang" }, "hang"];
    if (method !== "") this.#calls.ended(method, result);
    return answer;
  }

  /** The faults that come before anything is done. */
  #fail(fault: Fault | undefined, method: string): HttpAnswer | undefined {
    switch (fault?.kind) {
      case "throttle":
        throw this.#rateLimitExceeded(method, fault.retryAfterSeconds);
      case "refuse": {
        const reason = fault.code ?? "";
        throw new GceFault(isFaultReason(reason) ? reason : "invalid", `${method} was refused.`);
      }
      case "error5xx": {
        this.#calls.ended(method, "502");
        const headers = { "content-type": "text/html" };
        return { httpStatus: 502, body: "<html><h1>502 Server Error</h1></html>", headers };
      }
      case "hang":
        this.#calls.ended(method, "hang");
        return { httpStatus: 200, body: "", lost: "hang" };
    }
    return undefined;
  }

  /** What a request sees. */
  #view(method: string, fault: Fault | undefined): GceProject {
    const project = this.#project;
    const now = project.clock.now();
    if (fault?.kind === "stale-list" && isRead(method)) {
      return project.asOf(fault.staleMs === undefined ? fault.madeAt : { ms: now - fault.staleMs });
    }
    const { listLagMs } = project.delays;
    return listLagMs > 0 && classOf(method) === "lists" ? project.asOf({ ms: now - listLagMs }) : project;
  }

  #checkPlace(found: Route, project: string, place: string): void {
    const { project: own, networkProject } = this.#project;
    const isNetwork = /^(subnetworks|regionOperations)\./.test(found.method);
    if (project !== (isNetwork ? networkProject : own)) throw notFound(`projects/${project}`);
    if (found.method === "instances.aggregatedList") return;
    const regions = [...this.#project.subnetworks.values()].map(({ region }) => region);
    const kind = isNetwork ? "region" : "zone";
    const region = isNetwork ? place : place.replace(/-[a-z]$/, "");
    if (!regions.includes(region)) throw invalidField(kind, place, `Unknown ${kind}.`);
  }

  /** Per project and minute, refilled at the minute (facts §3). */
  #spend(method: string): void {
    for (const bucket of [this.#buckets[classOf(method)], this.#buckets.requests]) {
      const waitMs = bucket?.take() ?? 0;
      if (waitMs === 0) continue;
      const { retryAfter } = this.#project.behaviour;
      throw this.#rateLimitExceeded(method, retryAfter ? Math.ceil(waitMs / 1000) : undefined);
    }
  }

  #rateLimitExceeded(method: string, retryAfterSeconds: number | undefined): GceFault {
    const { throttleStatus, errorInfo } = this.#project.behaviour;
    const metric = `compute.googleapis.com/${isRead(method) ? "read" : "write"}_requests_per_region`;
    const consumer = `project_number:${this.#project.number}`;
    const info = {
      "@type": "type.googleapis.com/google.rpc.ErrorInfo",
      reason: "RATE_LIMIT_EXCEEDED",
      domain: "googleapis.com",
      metadata: { service: "compute.googleapis.com", quota_metric: metric, consumer },
    };
    return new GceFault(
      "rateLimitExceeded",
      `Quota exceeded for quota metric '${metric}' and limit 'Requests per minute' of service ` +
        `'compute.googleapis.com' for consumer '${consumer}'.`,
      { httpStatus: throttleStatus, details: errorInfo ? [info] : [], retryAfterSeconds },
    );
  }
}

interface Found {
  readonly found: Route;
  readonly project: string;
  readonly place: string;
  readonly name: string;
}

function find({ method, path }: HttpRequest): Found {
  const [, project, rest] = /^\/compute\/v1\/projects\/([^/]+)\/(.+)$/.exec(path) ?? [];
  for (const found of routes) {
    const match = found.path.exec(rest ?? "");
    if (match === null || found.http !== method || project === undefined) continue;
    const part = (name: "place" | "name"): string => decodeURIComponent(match.groups?.[name] ?? "");
    const name = part("name");
    if (!/^(|[a-z]([-a-z0-9]{0,61}[a-z0-9])?|[1-9]\d{0,19})$/.test(name)) {
      throw invalidField("name", name, "Must be a match of regex '[a-z]…|[1-9][0-9]{0,19}'");
    }
    return { found, project: decodeURIComponent(project), place: part("place"), name };
  }
  throw new GceFault("notFound", `${method} ${path} is no method of the API`);
}

/** `wait` is sent with the body `""` (facts §1.2). */
function parseBody(text: string): unknown {
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw new GceFault("badRequest", "Invalid JSON payload received.");
  }
}
