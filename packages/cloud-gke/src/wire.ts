import { InvalidError, parseCidr, UnavailableError } from "@cocoon-net/core";

/** What the driver needs of the API's resources, read with suspicion: a field that is missing is an error (G8). */

export type Json = Readonly<Record<string, unknown>>;

/** `10.4.1.0/28`; a single address as `/32`. */
export interface AliasRange {
  readonly cidr: string;
  /** Secondary range of the subnetwork; undefined = its primary range. */
  readonly rangeName: string | undefined;
}

export interface Nic {
  readonly name: string;
  readonly fingerprint: string;
  /** As the API shows it. */
  readonly network: string | undefined;
  readonly subnetwork: SubnetworkRef | undefined;
  readonly aliases: readonly AliasRange[];
}

export interface Instance {
  readonly id: string;
  readonly name: string;
  readonly zone: string;
  readonly status: string;
  readonly nics: readonly Nic[];
}

export interface SubnetworkRef {
  readonly project: string;
  readonly region: string;
  readonly name: string;
}

export interface SecondaryRange {
  readonly rangeName: string;
  readonly cidr: string;
  readonly reservedInternalRange: string | undefined;
}

export interface Subnetwork {
  readonly ref: SubnetworkRef;
  readonly fingerprint: string;
  readonly secondaryRanges: readonly SecondaryRange[];
}

export interface OperationError {
  readonly code: string;
  readonly message: string;
}

export interface Operation {
  readonly name: string;
  readonly done: boolean;
  readonly targetID: string | undefined;
  /** Empty unless it failed. A failed operation is DONE too. */
  readonly errors: readonly OperationError[];
  readonly httpErrorStatus: number | undefined;
}

export function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function readInstance(value: unknown): Instance {
  const json = recordOf(value, "an instance");
  return {
    id: textOf(json, "id"),
    name: textOf(json, "name"),
    zone: lastSegment(textOf(json, "zone")),
    status: textOf(json, "status"),
    nics: listOf(json, "networkInterfaces").map(readNic),
  };
}

function readNic(value: unknown): Nic {
  const json = recordOf(value, "a network interface");
  return {
    name: textOf(json, "name"),
    fingerprint: optionalText(json, "fingerprint") ?? "",
    network: optionalText(json, "network"),
    // A legacy network has none.
    subnetwork: parseSubnetworkRef(optionalText(json, "subnetwork") ?? ""),
    aliases: listOf(json, "aliasIpRanges").map((item) => {
      const alias = recordOf(item, "an alias range");
      return {
        cidr: normalCidr(textOf(alias, "ipCidrRange")),
        rangeName: optionalText(alias, "subnetworkRangeName"),
      };
    }),
  };
}

export function readSubnetwork(value: unknown): Subnetwork {
  const json = recordOf(value, "a subnetwork");
  const ref = parseSubnetworkRef(textOf(json, "selfLink"));
  if (ref === undefined) throw notUnderstood("a subnetwork");
  return {
    ref,
    fingerprint: textOf(json, "fingerprint"),
    secondaryRanges: listOf(json, "secondaryIpRanges").map((item) => {
      const range = recordOf(item, "a secondary range");
      return {
        rangeName: textOf(range, "rangeName"),
        cidr: textOf(range, "ipCidrRange"),
        reservedInternalRange: optionalText(range, "reservedInternalRange"),
      };
    }),
  };
}

export function readOperation(value: unknown): Operation {
  const json = recordOf(value, "an operation");
  const error = isRecord(json.error) ? listOf(json.error, "errors") : [];
  const status = json.httpErrorStatusCode;
  return {
    name: textOf(json, "name"),
    done: textOf(json, "status") === "DONE",
    targetID: optionalText(json, "targetId"),
    errors: error.map((item) => {
      const one = recordOf(item, "an operation's error");
      return { code: optionalText(one, "code") ?? "", message: optionalText(one, "message") ?? "" };
    }),
    httpErrorStatus: typeof status === "number" && status >= 400 ? status : undefined,
  };
}

/** From a URL or a relative name: `projects/p/regions/r/subnetworks/s`. */
export function parseSubnetworkRef(link: string): SubnetworkRef | undefined {
  const match = /(?:^|\/)projects\/([^/]+)\/regions\/([^/]+)\/subnetworks\/([^/]+)$/.exec(link);
  const [, project, region, name] = match ?? [];
  if (project === undefined || region === undefined || name === undefined) return undefined;
  return { project, region, name };
}

export function formatSubnetworkRef({ project, region, name }: SubnetworkRef): string {
  return `projects/${project}/regions/${region}/subnetworks/${name}`;
}

/** A bare address and its `/32` are the same (the API shows either). */
function normalCidr(text: string): string {
  const cidr = text.includes("/") ? text : `${text}/32`;
  try {
    parseCidr(cidr);
  } catch (error) {
    if (!(error instanceof InvalidError)) throw error;
    throw notUnderstood(`the alias range ${text}`);
  }
  return cidr;
}

export function lastSegment(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

export function recordOf(value: unknown, what: string): Json {
  if (isRecord(value)) return value;
  throw notUnderstood(what);
}

/** The client shows a repeated field that is absent as an empty list. */
export function listOf(json: Json, name: string): readonly unknown[] {
  const value = json[name] ?? [];
  if (Array.isArray(value)) return value;
  throw notUnderstood(`the field ${name}`);
}

function textOf(json: Json, name: string): string {
  const value = optionalText(json, name);
  if (value === undefined) throw notUnderstood(`an answer without ${name}`);
  return value;
}

function optionalText(json: Json, name: string): string | undefined {
  const value = json[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}

function notUnderstood(what: string): UnavailableError {
  return new UnavailableError(`Compute Engine answered with ${what} that this version does not understand`, {
    outcome: "unknown",
  });
}
