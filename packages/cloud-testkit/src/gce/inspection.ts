import { CocoonError, describeError, InvalidError } from "@cocoon-net/core";
import type { HttpAnswer, HttpRequest } from "../http-listener.ts";
import type { AddGceInstanceOptions } from "./instances.ts";
import type { GceSimulator } from "./simulator.ts";

/** The simulator's own paths beside the API: `/sim/…`, JSON, open. Undefined for every other path. */
export function inspect(simulator: GceSimulator, request: HttpRequest): HttpAnswer | undefined {
  if (!request.path.startsWith("/sim/")) return undefined;
  try {
    return { httpStatus: 200, body: route(simulator, request) };
  } catch (error) {
    if (!(error instanceof CocoonError)) throw error;
    return { httpStatus: error.code === "not-found" ? 404 : 400, body: { error: describeError(error) } };
  }
}

function route(simulator: GceSimulator, { method, path, body }: HttpRequest): unknown {
  if (method === "GET" && path === "/sim/state") return simulator.describeState();
  if (method === "GET" && path === "/sim/calls") return simulator.calls;
  if (method === "POST" && path === "/sim/instances") return simulator.addInstance(readOptions(body));
  const [, name, verb] = /^\/sim\/instances\/([^/]+)\/(stop|start|delete|preempt)$/.exec(path) ?? [];
  if (method === "POST" && name !== undefined) {
    if (verb === "stop") simulator.stopInstance(name);
    else if (verb === "start") simulator.startInstance(name);
    else if (verb === "preempt") simulator.preemptInstance(name);
    else simulator.deleteInstance(name);
    const { instances } = simulator.describeState();
    return instances.find((instance) => instance.name === name || instance.id === name) ?? {};
  }
  throw new InvalidError(`${method} ${path} is none of the simulator's paths`, {
    hint: "use GET /sim/state, GET /sim/calls, POST /sim/instances, POST /sim/instances/NAME/stop|start|preempt|delete",
  });
}

const instanceOptions = ["name", "zone", "subnetwork", "address", "mac"] as const;

function readOptions(body: Buffer): AddGceInstanceOptions {
  let json: unknown;
  try {
    json = body.length === 0 ? {} : JSON.parse(body.toString());
  } catch (cause) {
    throw new InvalidError("the body is not JSON", { cause });
  }
  if (typeof json !== "object" || json === null) throw new InvalidError("the body is not a JSON object");
  const options: { -readonly [Key in (typeof instanceOptions)[number]]?: string } = {};
  for (const [name, value] of Object.entries(json)) {
    const known = instanceOptions.find((option) => option === name);
    if (known === undefined || typeof value !== "string") {
      throw new InvalidError(`${name} is not one of ${instanceOptions.join(", ")} with a string value`);
    }
    options[known] = value;
  }
  return options;
}
