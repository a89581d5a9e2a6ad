import { CocoonError, describeError, InvalidError } from "@cocoon-net/core";
import { readFaultRule } from "./faults.ts";
import type { HttpAnswer, HttpRequest } from "./http-listener.ts";
import type { CloudSimulator } from "./simulator.ts";

type Inspected = Pick<
  CloudSimulator<unknown, unknown>,
  "describeState" | "callResults" | "faults" | "injectFault" | "clearFaults"
>;

/** What can be done with instances from outside. */
export interface InstanceControl {
  /** Names of the string options that a new one takes. */
  readonly options: readonly string[];
  add(options: Readonly<Record<string, string>>): unknown;
  /** By the last part of the path, `stop`; they throw {@link NotFoundError}. */
  readonly verbs: Readonly<Record<string, (nameOrID: string) => void>>;
  find(nameOrID: string): unknown;
}

/** The simulator's own paths beside the API: `/sim/…`, JSON, open. Undefined for every other path. */
export function inspect(
  simulator: Inspected,
  instances: InstanceControl,
  request: HttpRequest,
): HttpAnswer | undefined {
  if (!request.path.startsWith("/sim/")) return undefined;
  try {
    return { httpStatus: 200, body: route(simulator, instances, request) };
  } catch (error) {
    if (!(error instanceof CocoonError)) throw error;
    return { httpStatus: error.code === "not-found" ? 404 : 400, body: { error: describeError(error) } };
  }
}

function route(
  simulator: Inspected,
  instances: InstanceControl,
  { method, path, body }: HttpRequest,
): unknown {
  switch (`${method} ${path}`) {
    case "GET /sim/state":
      return simulator.describeState();
    case "GET /sim/calls":
      return simulator.callResults;
    case "GET /sim/faults":
      return simulator.faults;
    case "POST /sim/faults":
      simulator.injectFault(readFaultRule(parse(body)));
      return simulator.faults;
    case "DELETE /sim/faults":
      simulator.clearFaults();
      return simulator.faults;
    case "POST /sim/instances":
      return instances.add(readOptions(instances, parse(body)));
  }
  const [, id, verb] = /^\/sim\/instances\/([^/]+)\/([a-z]+)$/.exec(path) ?? [];
  const act = verb !== undefined && Object.hasOwn(instances.verbs, verb) ? instances.verbs[verb] : undefined;
  if (method === "POST" && id !== undefined && act !== undefined) {
    act(id);
    return instances.find(id) ?? {};
  }
  const verbs = Object.keys(instances.verbs).join("|");
  throw new InvalidError(`${method} ${path} is none of the simulator's paths`, {
    hint: `use GET /sim/state|calls|faults, POST or DELETE /sim/faults, POST /sim/instances, POST /sim/instances/ID/${verbs}`,
  });
}

function parse(body: Buffer): unknown {
  try {
    return body.length === 0 ? {} : JSON.parse(body.toString());
  } catch (cause) {
    throw new InvalidError("the body is not JSON", { cause });
  }
}

function readOptions(instances: InstanceControl, json: unknown): Record<string, string> {
  if (typeof json !== "object" || json === null) throw new InvalidError("the body is not a JSON object");
  const options: Record<string, string> = {};
  for (const [name, value] of Object.entries(json)) {
    if (!instances.options.includes(name) || typeof value !== "string") {
      throw new InvalidError(`${name} is not one of ${instances.options.join(", ")} with a string value`);
    }
    options[name] = value;
  }
  return options;
}
