import { formatAddress, hostRange, InvalidError, NotFoundError, parseCidr } from "@cocoon-net/core";
import { type GceProject, holds } from "./project.ts";
import type { GceInstance, GceInstanceStatus } from "./state.ts";

export interface AddGceInstanceOptions {
  /** Default: the next free one, `vm-1`. */
  readonly name?: string;
  /** Default: the first zone of the simulator. */
  readonly zone?: string;
  /** Default: the subnetwork `nodes`. */
  readonly subnetwork?: string;
  /** Default: the next free address of the subnetwork's primary range. */
  readonly address?: string;
  /** MAC of nic0; default made from the address, as the platform does. */
  readonly mac?: string;
  /** OAuth scopes of the service account; empty = none. Default: cloud-platform. */
  readonly scopes?: readonly string[];
}

/** Makes a RUNNING instance. @throws {InvalidError} when the name or address is taken */
export function addInstance(
  project: GceProject,
  defaults: { readonly zone: string },
  options: AddGceInstanceOptions,
): GceInstance {
  const zone = options.zone ?? defaults.zone;
  const names = new Set([...project.instances.values()].map((instance) => instance.name));
  const name = options.name ?? nextName(names);
  if (!/^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name)) {
    throw new InvalidError(`"${name}" is not an instance name like node-1`);
  }
  if (names.has(name)) throw new InvalidError(`the instance ${name} exists already`);
  const region = zone.replace(/-[a-z]$/, "");
  const key = `${region}/${options.subnetwork ?? "nodes"}`;
  const subnetwork = project.subnetworks.get(key);
  if (subnetwork === undefined) throw new InvalidError(`the zone ${zone} has no subnetwork ${key}`);
  const address = options.address ?? freeAddress(project, subnetwork.cidr);
  const taken = address === undefined || project.holderOf(`${address}/32`, "") !== undefined;
  if (taken || !holds(parseCidr(subnetwork.cidr), address)) {
    throw new InvalidError(`cannot give ${address ?? "any address"} of ${subnetwork.cidr} to ${name}`);
  }
  const id = project.newID();
  const instance: GceInstance = {
    id,
    name,
    project: project.project,
    zone,
    status: "RUNNING",
    preempted: false,
    nic: {
      name: "nic0",
      network: subnetwork.network,
      subnetwork: key,
      address,
      mac: options.mac ?? macOf(address),
      aliases: [],
      fingerprint: project.fingerprint([name, []]),
    },
    scopes: options.scopes ?? ["https://www.googleapis.com/auth/cloud-platform"],
    createdAt: project.clock.now(),
  };
  project.putInstance(id, instance);
  return instance;
}

/** RUNNING → STOPPING → TERMINATED; whether aliases stay is not sure (facts §2.5). */
export function stopInstance(project: GceProject, nameOrID: string): void {
  change(project, nameOrID, { from: ["RUNNING"], during: "STOPPING", to: "TERMINATED" });
}

/** Spot capacity is taken back: a notice, then it stops (facts §4.2). */
export function preemptInstance(project: GceProject, nameOrID: string): void {
  const ms = project.delays.preemptionNoticeMs;
  change(project, nameOrID, { from: ["RUNNING"], during: "STOPPING", to: "TERMINATED", preempted: true, ms });
}

/** TERMINATED → STAGING → RUNNING. */
export function startInstance(project: GceProject, nameOrID: string): void {
  change(project, nameOrID, { from: ["TERMINATED"], during: "STAGING", to: "RUNNING" });
}

/** STOPPING → gone, with its aliases. */
export function deleteInstance(project: GceProject, nameOrID: string): void {
  const from = ["RUNNING", "TERMINATED", "STOPPING", "STAGING"] as const;
  change(project, nameOrID, { from, during: "STOPPING", to: undefined });
}

export function instanceNamed(project: GceProject, nameOrID: string): GceInstance {
  for (const instance of project.instances.values()) {
    if (instance.id === nameOrID || instance.name === nameOrID) return instance;
  }
  throw new NotFoundError(`there is no instance ${nameOrID}`);
}

interface StatusChange {
  readonly from: readonly GceInstanceStatus[];
  readonly during: GceInstanceStatus;
  /** Undefined = it is gone then. */
  readonly to: GceInstanceStatus | undefined;
  readonly preempted?: boolean;
  /** Default: {@link GceDelays.instanceMs}. */
  readonly ms?: number;
}

function change(project: GceProject, nameOrID: string, wanted: StatusChange): void {
  const { from, during, to, preempted = false, ms = project.delays.instanceMs } = wanted;
  const instance = instanceNamed(project, nameOrID);
  if (instance.status === to) return;
  if (!from.includes(instance.status)) {
    throw new InvalidError(`the instance ${nameOrID} is ${instance.status}, not ${from.join(" or ")}`);
  }
  project.putInstance(instance.id, { ...instance, status: during, preempted });
  project.later(ms, () => {
    const now = project.instances.get(instance.id);
    if (now === undefined || (now.status !== during && to !== undefined)) return;
    if (to === undefined) return project.putInstance(instance.id, undefined);
    const keeps = to !== "TERMINATED" || project.behaviour.stoppedKeepsAliases;
    const nic = keeps
      ? now.nic
      : { ...now.nic, aliases: [], fingerprint: project.fingerprint([now.name, []]) };
    project.putInstance(instance.id, { ...now, status: to, preempted: false, nic });
  });
}

function nextName(names: ReadonlySet<string>): string {
  for (let n = 1; ; n++) if (!names.has(`vm-${n}`)) return `vm-${n}`;
}

/** The first and last two addresses of a primary range are the platform's (facts §2.4). */
function freeAddress(project: GceProject, cidr: string): string | undefined {
  const { first, last } = hostRange(parseCidr(cidr));
  for (let address = first + 1; address < last; address++) {
    const text = formatAddress(address);
    if (project.holderOf(`${text}/32`, "") === undefined) return text;
  }
  return undefined;
}

/** `42:01:` and the address. */
function macOf(address: string): string {
  const bytes = [0x42, 0x01, ...address.split(".").map(Number)];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
