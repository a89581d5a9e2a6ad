import { parseCidr, sizeOf } from "@cocoon-net/core";
import type { GceProject } from "./project.ts";
import type { GceInstance, GceOperation, GceSubnetwork } from "./state.ts";

/** The JSON of the API's resources; timestamps are RFC 3339, ids strings. */

export function instancePath(project: GceProject, instance: GceInstance): string {
  return `projects/${project.project}/zones/${instance.zone}/instances/${instance.name}`;
}

export function subnetworkPath(project: GceProject, subnetwork: GceSubnetwork): string {
  return `projects/${project.networkProject}/regions/${subnetwork.region}/subnetworks/${subnetwork.name}`;
}

export function instanceJson(project: GceProject, instance: GceInstance): Record<string, unknown> {
  const { nic } = instance;
  const [region, name] = nic.subnetwork.split("/");
  return {
    kind: "compute#instance",
    id: instance.id,
    creationTimestamp: new Date(instance.createdAt).toISOString(),
    name: instance.name,
    status: instance.status,
    zone: project.url(`projects/${project.project}/zones/${instance.zone}`),
    canIpForward: false,
    networkInterfaces: [
      {
        kind: "compute#networkInterface",
        network: nic.network,
        subnetwork: project.url(`projects/${project.networkProject}/regions/${region}/subnetworks/${name}`),
        networkIP: nic.address,
        name: nic.name,
        fingerprint: nic.fingerprint,
        stackType: "IPV4_ONLY",
        // Read by clients that echo the whole interface, which the API refuses (facts §1.4).
        accessConfigs: [{ kind: "compute#accessConfig", type: "ONE_TO_ONE_NAT", name: "external-nat" }],
        ...(nic.aliases.length === 0 && project.behaviour.emptyAliases === "absent"
          ? {}
          : { aliasIpRanges: nic.aliases.map(aliasJson) }),
      },
    ],
    selfLink: project.url(instancePath(project, instance)),
    labelFingerprint: "42WmSpB8rSM=",
    deletionProtection: false,
  };
}

function aliasJson(alias: GceInstance["nic"]["aliases"][number]): Record<string, unknown> {
  return {
    ipCidrRange: alias.cidr,
    ...(alias.rangeName === undefined ? {} : { subnetworkRangeName: alias.rangeName }),
  };
}

export function subnetworkJson(project: GceProject, subnetwork: GceSubnetwork): Record<string, unknown> {
  const ranges = subnetwork.secondaryRanges.map(({ rangeName, cidr }) => ({ rangeName, ipCidrRange: cidr }));
  return {
    kind: "compute#subnetwork",
    id: subnetwork.id,
    creationTimestamp: new Date(subnetwork.createdAt).toISOString(),
    name: subnetwork.name,
    network: subnetwork.network,
    ipCidrRange: subnetwork.cidr,
    region: project.url(`projects/${project.networkProject}/regions/${subnetwork.region}`),
    selfLink: project.url(subnetworkPath(project, subnetwork)),
    fingerprint: subnetwork.fingerprint,
    purpose: "PRIVATE",
    ...(ranges.length === 0 ? {} : { secondaryIpRanges: ranges }),
  };
}

/** Facts §2.4. */
export function utilizationJson(project: GceProject, subnetwork: GceSubnetwork): Record<string, unknown> {
  const key = `${subnetwork.region}/${subnetwork.name}`;
  const nics = [...project.instances.values()].map(({ nic }) => nic).filter((nic) => nic.subnetwork === key);
  const utilization = (rangeName: string | undefined, cidr: string, reserved: number) => {
    const aliases = nics.flatMap((nic) => nic.aliases.filter((alias) => alias.rangeName === rangeName));
    const held = aliases.reduce((sum, alias) => sum + sizeOf(parseCidr(alias.cidr).prefix), 0);
    const used = held + (rangeName === undefined ? nics.length : 0);
    return {
      ...(rangeName === undefined ? {} : { rangeName }),
      totalAllocatedIp: String(used),
      totalFreeIp: String(sizeOf(parseCidr(cidr).prefix) - reserved - used),
    };
  };
  return {
    ipv4Utilizations: [
      // The first two and the last two addresses of a primary range are the platform's.
      utilization(undefined, subnetwork.cidr, 4),
      ...subnetwork.secondaryRanges.map(({ rangeName, cidr }) => utilization(rangeName, cidr, 0)),
    ],
  };
}

const statusTexts: Readonly<Record<number, string>> = {
  403: "FORBIDDEN",
  404: "NOT FOUND",
  500: "INTERNAL ERROR",
};

export function operationJson(project: GceProject, operation: GceOperation): Record<string, unknown> {
  const { scope, error } = operation;
  const owner = scope.kind === "zones" ? project.project : project.networkProject;
  const place = project.url(`projects/${owner}/${scope.kind}/${scope.name}`);
  return {
    kind: "compute#operation",
    id: operation.id,
    name: operation.name,
    [scope.kind === "zones" ? "zone" : "region"]: place,
    operationType: operation.type,
    targetLink: project.url(operation.targetLink),
    targetId: operation.targetID,
    status: operation.status,
    progress: operation.status === "DONE" ? 100 : 0,
    insertTime: new Date(operation.startedAt).toISOString(),
    startTime: new Date(operation.startedAt).toISOString(),
    ...(operation.endedAt === undefined ? {} : { endTime: new Date(operation.endedAt).toISOString() }),
    selfLink: `${place}/operations/${operation.name}`,
    ...(error === undefined
      ? {}
      : {
          error: { errors: [{ code: error.code, message: error.message }] },
          httpErrorStatusCode: error.httpStatus,
          httpErrorMessage: statusTexts[error.httpStatus] ?? "BAD REQUEST",
        }),
  };
}
