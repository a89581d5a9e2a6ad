import { overlaps, parseCidr } from "@cocoon-net/core";
import type { Fault } from "../faults.ts";
import { type AliasChange, planChange, readAliases, resolveAliases } from "./alias-ranges.ts";
import { GceFault, invalidField, notFound, staleFingerprint } from "./gce-fault.ts";
import type { GceOperations } from "./operations.ts";
import { type GceProject, readCidr } from "./project.ts";
import type { GceInstance, GceOperationError, GceSecondaryRange, GceSubnetwork } from "./state.ts";
import {
  instanceJson,
  instancePath,
  operationJson,
  subnetworkJson,
  subnetworkPath,
  utilizationJson,
} from "./wire.ts";

export type Json = Readonly<Record<string, unknown>>;

/** One request, after its path was understood. */
export interface MethodCall {
  readonly project: GceProject;
  readonly operations: GceOperations;
  /** Zone or region, and the resource's name, as they stand in the path. */
  readonly place: string;
  readonly name: string;
  readonly query: ReadonlyMap<string, string>;
  /** Undefined when there is none. */
  readonly body: unknown;
  readonly rawBody: string;
  readonly fault: Fault | undefined;
}

export function getInstance({ project, place, name }: MethodCall): Json {
  return instanceJson(project, project.findInstance(place, name));
}

export function listInstances(call: MethodCall): Json {
  const { project, place } = call;
  const all = shown(call, project.instances).filter(({ zone }) => zone === place);
  const { page, nextPageToken } = pageOf(call, all);
  const items = page.map((instance) => instanceJson(project, instance));
  return { kind: "compute#instanceList", items, ...nextPageToken };
}

/** Scopes without an instance come with a warning, as they really do. */
export function aggregatedInstances(call: MethodCall): Json {
  const { project } = call;
  const all = shown(call, project.instances);
  const { page, nextPageToken } = pageOf(call, all);
  const zones = [...new Set(all.map(({ zone }) => zone))];
  const items = zones.map((zone) => {
    const instances = page.filter((instance) => instance.zone === zone);
    const empty = {
      warning: {
        code: "NO_RESULTS_ON_PAGE",
        message: `There are no results for scope 'zones/${zone}' on this page.`,
        data: [{ key: "scope", value: `zones/${zone}` }],
      },
    };
    const found = { instances: instances.map((instance) => instanceJson(project, instance)) };
    return [`zones/${zone}`, instances.length === 0 ? empty : found];
  });
  return { kind: "compute#instanceAggregatedList", items: Object.fromEntries(items), ...nextPageToken };
}

/** Facts §2.1: only the alias ranges of nic0; every other field of the interface is refused. */
export function updateNetworkInterface(call: MethodCall): Json {
  const { project, operations, query } = call;
  const instance = project.findInstance(call.place, call.name);
  const path = instancePath(project, instance);
  const nicName = query.get("networkInterface");
  if (nicName !== instance.nic.name)
    throw invalidField("networkInterface", nicName ?? "", "No such interface.");
  const body = readBody(call);
  for (const name of Object.keys(body)) {
    if (["fingerprint", "aliasIpRanges", "name"].includes(name)) continue;
    throw invalidField(`resource.${name}`, "", "Updating this field is not supported.");
  }
  const request = {
    type: "updateNetworkInterface",
    scope: { kind: "zones", name: instance.zone },
    targetLink: path,
    targetID: instance.id,
    requestID: query.get("requestId"),
    body: call.rawBody,
  } as const;
  const replayed = operations.replay(request);
  if (replayed !== undefined) return operationJson(project, replayed);

  checkFingerprint(body, instance.nic.fingerprint);
  operations.requireIdle(instance.id, path);
  if (instance.status !== "RUNNING" && instance.status !== "TERMINATED") {
    throw new GceFault("resourceNotReady", `The resource '${path}' is not ready`);
  }
  const { aliasIpRanges } = body;
  const subnetwork = project.subnetworks.get(instance.nic.subnetwork);
  if (subnetwork === undefined) throw notFound(instance.nic.subnetwork);
  // Absent means unchanged, an empty list means none (facts §1.4).
  const wanted = aliasIpRanges === undefined ? undefined : readAliases(aliasIpRanges, subnetwork);
  const change = wanted && planChange(project, instance, wanted);
  operations.spend(instance.id);
  const operation = operations.start(request, (): GceOperationError | undefined => {
    const now = project.instances.get(instance.id);
    if (now === undefined) {
      const message = `The resource '${path}' was not found`;
      return { httpStatus: 404, code: "RESOURCE_NOT_FOUND", message };
    }
    if (change === undefined || call.fault?.kind === "fails-later") return failure(call);
    const { kept, added } = call.fault?.kind === "half-done" ? halfOf(now, change) : change;
    const resolved = resolveAliases(project, now, subnetwork, added, kept.length);
    if (!Array.isArray(resolved)) return resolved;
    const aliases = [...kept, ...resolved];
    project.putInstance(now.id, {
      ...now,
      nic: { ...now.nic, aliases, fingerprint: project.fingerprint([now.name, aliases]) },
    });
    return failure(call);
  });
  return operationJson(project, operation);
}

/** How an operation ends that a fault was made for. */
function failure({ fault }: MethodCall): GceOperationError | undefined {
  if (fault?.kind !== "fails-later" && fault?.kind !== "half-done") return undefined;
  const { code = "INTERNAL_ERROR" } = fault;
  return { httpStatus: 500, code, message: "Internal error. Please try again or contact Google Support." };
}

/** The first half of what a change adds or takes away. */
function halfOf(instance: GceInstance, { added, kept }: AliasChange): AliasChange {
  const removed = instance.nic.aliases.filter((alias) => !kept.includes(alias));
  return {
    added: added.slice(0, Math.floor(added.length / 2)),
    kept: [...kept, ...removed.slice(Math.floor(removed.length / 2))],
  };
}

/** With `views=WITH_UTILIZATION` also how much of each range is in use (facts §2.4). */
export function getSubnetwork({ project, place, name, query }: MethodCall): Json {
  const subnetwork = project.findSubnetwork(place, name);
  const json = subnetworkJson(project, subnetwork);
  if (query.get("views") !== "WITH_UTILIZATION") return json;
  return { ...json, utilizationDetails: utilizationJson(project, subnetwork) };
}

/** Facts §2.4: secondary ranges only, the full list, not adding and removing at once. */
export function patchSubnetwork(call: MethodCall): Json {
  const { project, operations } = call;
  const subnetwork = project.findSubnetwork(call.place, call.name);
  const path = subnetworkPath(project, subnetwork);
  const body = readBody(call);
  for (const name of Object.keys(body)) {
    if (["fingerprint", "secondaryIpRanges"].includes(name)) continue;
    throw invalidField(`resource.${name}`, "", "The simulator only patches secondary ranges.");
  }
  const request = {
    type: "compute.subnetworks.patch",
    scope: { kind: "regions", name: subnetwork.region },
    targetLink: path,
    targetID: subnetwork.id,
    requestID: call.query.get("requestId"),
    body: call.rawBody,
  } as const;
  const replayed = operations.replay(request);
  if (replayed !== undefined) return operationJson(project, replayed);

  checkFingerprint(body, subnetwork.fingerprint);
  operations.requireIdle(subnetwork.id, path);
  const ranges =
    body.secondaryIpRanges === undefined
      ? subnetwork.secondaryRanges
      : readRanges(project, subnetwork, body.secondaryIpRanges);
  operations.spend(subnetwork.id);
  const operation = operations.start(request, () => {
    const failed = failure(call);
    if (failed !== undefined) return failed;
    const now = project.findSubnetwork(subnetwork.region, subnetwork.name);
    project.putSubnetwork({
      ...now,
      secondaryRanges: ranges,
      fingerprint: project.fingerprint([now.name, ranges]),
    });
    return undefined;
  });
  return operationJson(project, operation);
}

function readRanges(project: GceProject, subnetwork: GceSubnetwork, list: unknown): GceSecondaryRange[] {
  const field = "resource.secondaryIpRanges";
  if (!Array.isArray(list)) throw invalidField(field, "", "Must be a list.");
  const ranges = list.map((item: unknown): GceSecondaryRange => {
    const entries = new Map(typeof item === "object" && item !== null ? Object.entries(item) : []);
    const rangeName: unknown = entries.get("rangeName");
    const cidr: unknown = entries.get("ipCidrRange");
    if (typeof rangeName !== "string" || typeof cidr !== "string" || readCidr(cidr) === undefined) {
      throw invalidField(`${field}[].ipCidrRange`, String(cidr), "Must be a CIDR range.");
    }
    return { rangeName, cidr };
  });
  const had = subnetwork.secondaryRanges;
  const isKept = (range: GceSecondaryRange) =>
    ranges.some((other) => other.rangeName === range.rangeName && other.cidr === range.cidr);
  const removed = had.filter((range) => !isKept(range));
  const added = ranges.filter(
    (range) => !had.some((other) => other.rangeName === range.rangeName && other.cidr === range.cidr),
  );
  for (const { rangeName } of added) {
    if (!had.some((range) => range.rangeName === rangeName)) continue;
    throw invalidField(field, rangeName, "A secondary range cannot be changed.");
  }
  if (added.length > 0 && removed.length > 0) {
    throw invalidField(field, "", "Cannot add and remove secondary ranges at the same time.");
  }
  if (ranges.length > project.limits.secondaryRangesPerSubnetwork) {
    throw new GceFault("limitExceeded", `Exceeded limit 'SECONDARY_RANGES_PER_SUBNETWORK' on resource.`);
  }
  const others = [...project.subnetworks.values()].flatMap((other) => [
    other.cidr,
    ...other.secondaryRanges.map((range) => range.cidr),
  ]);
  for (const { cidr } of added) {
    const clash = others.find((other) => overlaps(parseCidr(other), parseCidr(cidr)));
    if (clash !== undefined) throw invalidField(field, cidr, `It overlaps with the range ${clash}.`);
  }
  for (const { rangeName } of removed) {
    const user = [...project.instances.values()].find(({ nic }) =>
      nic.aliases.some((alias) => alias.rangeName === rangeName),
    );
    if (user !== undefined) throw invalidField(field, rangeName, `It is in use by ${user.name}.`);
  }
  return ranges;
}

export function getOperation(kind: "zones" | "regions"): (call: MethodCall) => Json {
  return ({ project, operations, place, name }) =>
    operationJson(project, operations.get({ kind, name: place }, name));
}

export function waitOperation(kind: "zones" | "regions"): (call: MethodCall) => Promise<Json> {
  return async ({ project, operations, place, name }) =>
    operationJson(project, await operations.wait({ kind, name: place }, name));
}

export function listOperations(kind: "zones" | "regions"): (call: MethodCall) => Json {
  return (call) => {
    const { project, operations, place } = call;
    const filter = call.query.get("filter");
    const match = filter === undefined ? null : /^\(?(\w+) *(=|!=) *"?([\w-]+)"?\)?$/.exec(filter);
    if (filter !== undefined && match === null) throw invalidField("filter", filter, "Invalid list filter.");
    const [, key, operator, value] = match ?? [];
    const all = operations
      .list({ kind, name: place })
      .filter(() => call.fault?.kind !== "empty-list")
      .map((operation): Json => operationJson(project, operation))
      .filter((json) => key === undefined || (String(json[key]) === value) === (operator === "="));
    const { page, nextPageToken } = pageOf(call, all);
    return { kind: "compute#operationList", items: page, ...nextPageToken };
  };
}

/** What a list shows; nothing when a fault says so. */
function shown<T>({ fault }: MethodCall, records: ReadonlyMap<string, T>): T[] {
  return fault?.kind === "empty-list" ? [] : [...records.values()];
}

/** An empty list field is left out, and so is the token of the last page. */
function pageOf<T>(
  { project, query }: MethodCall,
  all: readonly T[],
): { page: readonly T[]; nextPageToken: { nextPageToken?: string } } {
  const size = Math.min(Number(query.get("maxResults") ?? 500), project.limits.pageSize);
  if (!(size >= 1)) throw invalidField("maxResults", query.get("maxResults") ?? "", "Must be 1 to 500.");
  const token = query.get("pageToken");
  const start = token === undefined ? 0 : Number(/^page-(\d+)$/.exec(token)?.[1]);
  if (Number.isNaN(start)) throw invalidField("pageToken", token ?? "", "Invalid page token.");
  const end = start + size;
  return {
    page: all.slice(start, end),
    nextPageToken: end < all.length ? { nextPageToken: `page-${end}` } : {},
  };
}

function readBody({ body }: MethodCall): Record<string, unknown> {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new GceFault("badRequest", "The request body is not a JSON object.");
  }
  return Object.fromEntries(Object.entries(body));
}

/** Facts §2.1, §2.4: 400 when absent, 412 when stale. */
function checkFingerprint(body: Json, current: string): void {
  if (typeof body.fingerprint !== "string" || body.fingerprint === "") {
    throw new GceFault("required", "Required field 'resource.fingerprint' not specified");
  }
  if (body.fingerprint !== current) throw staleFingerprint();
}
