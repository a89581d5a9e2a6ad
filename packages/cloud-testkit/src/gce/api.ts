import type { FaultRule, Faults } from "../faults.ts";
import type { HttpAnswer, HttpRequest } from "../http-listener.ts";
import type { GceAccess } from "./access.ts";
import { GceFault, invalidField, notFound } from "./gce-fault.ts";
import * as methods from "./methods.ts";
import { GceOperations } from "./operations.ts";
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

/** From an HTTP request to an answer: access, rate limits, faults, then the method. */
export class GceApi {
  readonly #project: GceProject;
  readonly #operations: GceOperations;
  readonly #access: GceAccess;
  readonly #faults: Faults;
  /** What a refusal for the rate looks like: the documentation says 403, clients have seen both. */
  readonly #throttleStatus: 403 | 429;
  readonly #calls = new Map<string, number>();
  readonly #used = new Map<string, { minute: number; count: number }>();

  constructor(project: GceProject, access: GceAccess, faults: Faults, throttleStatus: 403 | 429) {
    this.#project = project;
    this.#operations = new GceOperations(project);
    this.#access = access;
    this.#faults = faults;
    this.#throttleStatus = throttleStatus;
  }

  /** Requests by method, refused ones included. */
  get calls(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#calls);
  }

  async answer(request: HttpRequest): Promise<HttpAnswer> {
    let fault: FaultRule["kind"] | undefined;
    try {
      const { found, project, place, name } = find(request);
      const { method } = found;
      this.#calls.set(method, (this.#calls.get(method) ?? 0) + 1);
      const path = decodeURIComponent(request.path).replace("/compute/v1/", "");
      this.#access.check(request, found.permission, path.replace(/\/(updateNetworkInterface|wait)$/, ""));
      this.#spend(method);
      this.#checkPlace(found, project, place);

      fault = this.#faults.take(method);
      if (fault === "throttle") throw this.#rateLimitExceeded(method);
      if (fault === "error5xx") return { httpStatus: 502, body: "<html><h1>502 Server Error</h1></html>" };
      if (fault === "hang") return { httpStatus: 200, body: "", lost: "hang" };
      const rawBody = request.body.toString();
      const body = await found.run({
        project: this.#project,
        operations: this.#operations,
        place,
        name,
        query: new Map(new URLSearchParams(request.rawQuery)),
        body: parseBody(rawBody),
        rawBody,
        showNothing: fault === "empty-list",
      });
      return { httpStatus: 200, body, ...(fault === "lost-answer" ? { lost: "closed" } : {}) };
    } catch (error) {
      if (!(error instanceof GceFault)) throw error;
      const { httpStatus, body } = error;
      return { httpStatus, body, ...(fault === "lost-answer" ? { lost: "closed" } : {}) };
    }
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
    const { limits, clock } = this.#project;
    const kind = isRead(method) ? "reads" : "writes";
    const limit = kind === "reads" ? limits.readsPerMinute : limits.writesPerMinute;
    if (limit === undefined) return;
    const minute = Math.floor(clock.now() / limits.minuteMs);
    const used = this.#used.get(kind);
    const count = used?.minute === minute ? used.count : 0;
    if (count >= limit) throw this.#rateLimitExceeded(method);
    this.#used.set(kind, { minute, count: count + 1 });
  }

  #rateLimitExceeded(method: string): GceFault {
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
      { httpStatus: this.#throttleStatus, details: [info] },
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
