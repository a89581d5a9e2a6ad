import { CocoonError, describeError, InvalidError } from "@cocoon-net/core";
import type { HttpAnswer, HttpRequest } from "../http-listener.ts";
import type { AddInstanceOptions } from "./instances.ts";
import type { VolcengineSimulator } from "./simulator.ts";

/** The simulator's own paths beside the API: `/sim/…`, JSON, unsigned. Undefined for every other path. */
export function inspect(simulator: VolcengineSimulator, request: HttpRequest): HttpAnswer | undefined {
  if (!request.path.startsWith("/sim/")) return undefined;
  try {
    return { httpStatus: 200, body: route(simulator, request) };
  } catch (error) {
    if (!(error instanceof CocoonError)) throw error;
    return { httpStatus: error.code === "not-found" ? 404 : 400, body: { error: describeError(error) } };
  }
}

function route(simulator: VolcengineSimulator, { method, path, body }: HttpRequest): unknown {
  if (method === "GET" && path === "/sim/state") return simulator.describeState();
  if (method === "GET" && path === "/sim/calls") return simulator.calls;
  if (method === "POST" && path === "/sim/instances") return simulator.addInstance(readOptions(body));
  const [, instanceID, verb] = /^\/sim\/instances\/([^/]+)\/(stop|start|delete)$/.exec(path) ?? [];
  if (method === "POST" && instanceID !== undefined) {
    if (verb === "stop") simulator.stopInstance(instanceID);
    else if (verb === "start") simulator.startInstance(instanceID);
    else simulator.deleteInstance(instanceID);
    return simulator.describeState().instances.find((instance) => instance.instanceID === instanceID) ?? {};
  }
  throw new InvalidError(`${method} ${path} is none of the simulator's paths`, {
    hint: "use GET /sim/state, GET /sim/calls, POST /sim/instances, POST /sim/instances/ID/stop|start|delete",
  });
}

const instanceOptions = ["instanceID", "zone", "primaryAddress", "primaryMAC", "type"] as const;

function readOptions(body: Buffer): AddInstanceOptions {
  let json: unknown;
  try {
    json = body.length === 0 ? {} : JSON.parse(body.toString());
  } catch (cause) {
    throw new InvalidError("the body is not JSON", { cause });
  }
  if (typeof json !== "object" || json === null) throw new InvalidError("the body is not a JSON object");
  const options: { -readonly [Key in keyof AddInstanceOptions]: string } = {};
  for (const [name, value] of Object.entries(json)) {
    const known = instanceOptions.find((option) => option === name);
    if (known === undefined || typeof value !== "string") {
      throw new InvalidError(`${name} is not one of ${instanceOptions.join(", ")} with a string value`);
    }
    options[known] = value;
  }
  return options;
}
