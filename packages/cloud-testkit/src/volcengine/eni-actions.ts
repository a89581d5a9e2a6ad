import { claimAddresses, requireGroupRoom, takeAddresses, type VolcengineAccount } from "./account.ts";
import { refuse } from "./api-fault.ts";
import type { VolcengineBehaviour } from "./behaviour.ts";
import { attachedEnis, availableSubnet, findEni, findInstance, requireWritableVpc } from "./lookup.ts";
import { filterByTags, readPaging } from "./paging.ts";
import type { RequestParameters } from "./request-parameters.ts";
import type { EniStatus, SimulatedEni, SimulatedSubnet } from "./state.ts";
import { eniOnTheWire } from "./wire.ts";

type Result = Record<string, unknown>;

/** Facts §2.1. Creating → Available, with all its addresses at once. */
export function createNetworkInterface(account: VolcengineAccount, params: RequestParameters): Result {
  const { limits, delays } = account;
  const subnetID = params.required("SubnetId");
  const securityGroupIDs = params.list("SecurityGroupIds");
  const name = params.optional("NetworkInterfaceName") ?? "";
  const description = params.optional("Description") ?? "";
  const primary = params.optional("PrimaryIpAddress");
  let wanted = params.list("PrivateIpAddress");
  let count = params.integer("SecondaryPrivateIpAddressCount", 1, limits.secondaryAddressesPerFreeEni);
  params.boolean("PortSecurityEnabled");
  params.optional("ProjectName");
  const tags = params.tags(limits.tagsPerResource);
  params.refuseOthers();

  if (name.length > 128)
    throw refuse("InvalidParameter", "NetworkInterfaceName has more than 128 characters.");
  if (description.length > 255) throw refuse("InvalidParameter", "Description has more than 255 characters.");
  if (wanted.length > 0 && count !== undefined) {
    throw refuse(
      "InvalidParameter",
      "PrivateIpAddress and SecondaryPrivateIpAddressCount exclude each other.",
    );
  }
  const { creationAddresses } = account.behaviour;
  if (creationAddresses === "refused" && (wanted.length > 0 || count !== undefined)) {
    throw refuse("InvalidParameter", "PrivateIpAddress is not a parameter of this action.");
  }
  if (creationAddresses === "ignored") [wanted, count] = [[], undefined];
  const subnet = availableSubnet(account, subnetID);
  if (securityGroupIDs.length === 0) throw refuse("MissingParameter", "SecurityGroupIds.1 is missing.");
  if (securityGroupIDs.length > limits.securityGroupsPerEni) {
    throw refuse("QuotaExceeded.EniSecurityGroup", `At most ${limits.securityGroupsPerEni} groups per ENI.`);
  }
  for (const id of securityGroupIDs) {
    if (account.securityGroups.get(id)?.vpcID === subnet.vpcID) continue;
    throw refuse("InvalidSecurityGroup.NotFound", `The security group ${id} is not in ${subnet.vpcID}.`);
  }
  const secondaries = [...account.enis.values()].filter((eni) => eni.type === "secondary").length;
  if (secondaries >= limits.enisPerRegion) {
    throw refuse("QuotaExceeded.Eni", `The account has ${secondaries} ENIs, its quota.`);
  }
  // All or nothing: a count that does not fit fails the call (facts §2.13, InsufficientIpInSubnet).
  const claimed = claimAddresses(account, subnet, primary === undefined ? wanted : [primary, ...wanted]);
  const missing = (count ?? 0) + (primary === undefined ? 1 : 0);
  const taken = takeAddresses(account, subnet, claimed.length + missing).filter((a) => !claimed.includes(a));
  const all =
    primary === undefined
      ? [...taken.slice(0, 1), ...claimed, ...taken.slice(1, missing)]
      : [...claimed, ...taken.slice(0, missing)];
  requireGroupRoom(account, securityGroupIDs, all.length);

  const eni = newEni(account, subnet, {
    name,
    description,
    tags,
    type: "secondary",
    securityGroupIDs,
    addresses: all,
  });
  account.putEni(eni.eniID, eni);
  account.later(
    delays.createEniMs,
    () => moveEni(account, eni.eniID, "Creating", { status: "Available" }),
    () => moveEni(account, eni.eniID, "Creating", { status: "Error" }),
  );
  account.lockVpc(subnet.vpcID, delays.assignLockMs);
  return { NetworkInterfaceId: eni.eniID, AsyncTaskId: account.newID("task") };
}

/** Facts §2.2. Available → Attaching → InUse. */
export function attachNetworkInterface(account: VolcengineAccount, params: RequestParameters): Result {
  const { limits, delays } = account;
  const instanceID = params.required("InstanceId");
  const eniID = params.required("NetworkInterfaceId");
  const deleteOnTermination = params.boolean("DeleteOnTermination") ?? false;
  params.refuseOthers();

  const eni = findEni(account, eniID);
  const instance = findInstance(account, instanceID);
  requireStatus(eni, ["Available"]);
  requireWritableVpc(account, eni.vpcID);
  requireSettledInstance(account, instanceID);
  if (eni.vpcID !== instance.vpcID || eni.zone !== instance.zone) {
    throw refuse("InvalidEni.ZoneMismatch", `${eniID} is in ${eni.zone}, ${instanceID} in ${instance.zone}.`);
  }
  if (attachedEnis(account, instanceID).length >= limits.enisPerInstance) {
    throw refuse("LimitExceeded.EnisPerInstance", `${instanceID} has ${limits.enisPerInstance} ENIs.`);
  }
  if (eni.addresses.length > attachedLimit(account)) {
    throw refuse("LimitExceeded.PrivateIpsPerEni", `${eniID} has ${eni.addresses.length} addresses.`);
  }
  account.putEni(eniID, { ...eni, status: "Attaching", instanceID, deleteOnTermination });
  account.later(
    delays.attachMs,
    () => moveEni(account, eniID, "Attaching", { status: "InUse" }),
    () => moveEni(account, eniID, "Attaching", { status: "Available", instanceID: undefined }),
  );
  return { AsyncTaskId: account.newID("task") };
}

/** Facts §2.3. InUse → Detaching → Available. */
export function detachNetworkInterface(account: VolcengineAccount, params: RequestParameters): Result {
  const instanceID = params.required("InstanceId");
  const eniID = params.required("NetworkInterfaceId");
  params.refuseOthers();

  const eni = findEni(account, eniID);
  if (eni.type === "primary" || eni.serviceManaged) throw refuse("Forbidden", `${eniID} cannot be detached.`);
  if (eni.instanceID !== instanceID) {
    throw refuse("InvalidEni.InstanceMismatch", `${eniID} is not attached to ${instanceID}.`);
  }
  requireStatus(eni, ["InUse"]);
  requireWritableVpc(account, eni.vpcID);
  requireSettledInstance(account, instanceID);
  startDetach(account, eni);
  return { AsyncTaskId: account.newID("task") };
}

export function startDetach(account: VolcengineAccount, eni: SimulatedEni): void {
  account.putEni(eni.eniID, { ...eni, status: "Detaching" });
  account.later(
    account.delays.detachMs,
    () => moveEni(account, eni.eniID, "Detaching", { status: "Available", instanceID: undefined }),
    () => moveEni(account, eni.eniID, "Detaching", { status: "InUse" }),
  );
}

/** Facts §2.4. Must be Available (or have failed to be made); Deleting → gone. */
export function deleteNetworkInterface(account: VolcengineAccount, params: RequestParameters): Result {
  const eniID = params.required("NetworkInterfaceId");
  params.refuseOthers();

  const eni = findEni(account, eniID);
  if (eni.type === "primary" || eni.serviceManaged) throw refuse("Forbidden", `${eniID} cannot be deleted.`);
  requireStatus(eni, ["Available", "Error"]);
  requireWritableVpc(account, eni.vpcID);
  account.putEni(eniID, { ...eni, status: "Deleting" });
  account.later(
    account.delays.deleteEniMs,
    () => account.putEni(eniID, undefined),
    () => moveEni(account, eniID, "Deleting", { status: eni.status }),
  );
  return {};
}

/** Facts §2.5. */
export function describeNetworkInterfaces(account: VolcengineAccount, params: RequestParameters): Result {
  const ids = params.list("NetworkInterfaceIds");
  const name = params.optional("NetworkInterfaceName");
  const type = params.optional("Type");
  const instanceID = params.optional("InstanceId");
  const vpcID = params.optional("VpcId");
  const subnetID = params.optional("SubnetId");
  const zone = params.optional("ZoneId");
  const primaries = params.list("PrimaryIpAddresses");
  const addresses = params.list("PrivateIpAddresses");
  const securityGroupID = params.optional("SecurityGroupId");
  const status = params.optional("Status");
  const filters = params.tagFilters();
  const page = readPaging(params, { pageNumber: true });
  params.refuseOthers();
  if (addresses.length > 0 && vpcID === undefined) {
    throw refuse("MissingParameter", "PrivateIpAddresses needs VpcId.");
  }
  if (account.behaviour.unknownIDs === "refuse") for (const id of ids) findEni(account, id);

  const found = filterByTags([...account.enis.values()], filters).filter(
    (eni) =>
      (ids.length === 0 || ids.includes(eni.eniID)) &&
      (name === undefined || eni.name === name) &&
      (type === undefined || eni.type === type) &&
      (instanceID === undefined || eni.instanceID === instanceID) &&
      (vpcID === undefined || eni.vpcID === vpcID) &&
      (subnetID === undefined || eni.subnetID === subnetID) &&
      (zone === undefined || eni.zone === zone) &&
      (primaries.length === 0 || eni.addresses.some((a) => a.primary && primaries.includes(a.address))) &&
      (addresses.length === 0 || eni.addresses.some((a) => addresses.includes(a.address))) &&
      (securityGroupID === undefined || eni.securityGroupIDs.includes(securityGroupID)) &&
      (status === undefined || eni.status === status),
  );
  const { items, fields } = page(found, (eni) => eni.eniID);
  return { NetworkInterfaceSets: items.map(eniOnTheWire), ...fields };
}

/** Facts §2.6. */
export function describeNetworkInterfaceAttributes(
  account: VolcengineAccount,
  params: RequestParameters,
): Result {
  const eniID = params.required("NetworkInterfaceId");
  params.refuseOthers();
  return eniOnTheWire(findEni(account, eniID));
}

/** Facts §2.7. */
export function assignPrivateIpAddresses(account: VolcengineAccount, params: RequestParameters): Result {
  const { limits } = account;
  const eniID = params.required("NetworkInterfaceId");
  const count = params.integer("SecondaryPrivateIpAddressCount", 1, limits.secondaryAddressesPerFreeEni);
  const wanted = params.list("PrivateIpAddress");
  params.refuseOthers();
  if ((count === undefined) === (wanted.length === 0)) {
    throw refuse("InvalidParameter", "Give one of SecondaryPrivateIpAddressCount and PrivateIpAddress.");
  }

  const eni = findEni(account, eniID);
  requireStatus(eni, ["Available", "InUse"]);
  const subnet = availableSubnet(account, eni.subnetID);
  const most = eni.status === "InUse" ? attachedLimit(account) : limits.secondaryAddressesPerFreeEni + 1;
  if (eni.addresses.length + (count ?? wanted.length) > most) {
    throw refuse(
      "LimitExceeded.PrivateIpsPerEni",
      `${eniID} has ${eni.addresses.length} of ${most} addresses.`,
    );
  }
  const added =
    count === undefined ? claimAddresses(account, subnet, wanted) : takeAddresses(account, subnet, count);
  requireGroupRoom(account, eni.securityGroupIDs, added.length);
  const more = added.map((address) => ({ address, primary: false }));
  account.putEni(eniID, { ...eni, addresses: [...eni.addresses, ...more] });
  account.lockVpc(eni.vpcID, account.delays.assignLockMs);
  const before = eni.addresses.filter((held) => !held.primary).map((held) => held.address);
  return {
    NetworkInterfaceId: eniID,
    // Plain strings here, not the objects of a Describe.
    PrivateIpSet: account.behaviour.assignAnswer === "all" ? [...before, ...added] : added,
    AsyncTaskId: account.newID("task"),
  };
}

/** Facts §2.7; for an address that is not there see {@link VolcengineBehaviour.unassignMissing}. */
export function unassignPrivateIpAddresses(account: VolcengineAccount, params: RequestParameters): Result {
  const eniID = params.required("NetworkInterfaceId");
  const unwanted = params.list("PrivateIpAddress");
  params.refuseOthers();
  if (unwanted.length === 0) throw refuse("MissingParameter", "PrivateIpAddress.1 is missing.");

  const eni = findEni(account, eniID);
  if (eni.serviceManaged) throw refuse("Forbidden", `${eniID} is managed by a service.`);
  requireStatus(eni, ["Available", "InUse"]);
  requireWritableVpc(account, eni.vpcID);
  const { unassignMissing } = account.behaviour;
  const missing = unwanted.find(
    (address) => !eni.addresses.some((held) => held.address === address && !held.primary),
  );
  if (missing === undefined || unassignMissing !== "refuse") {
    const addresses = eni.addresses.filter((held) => held.primary || !unwanted.includes(held.address));
    account.putEni(eniID, { ...eni, addresses });
  }
  if (missing !== undefined && unassignMissing !== "ignore") {
    throw refuse("InvalidPrivateIp.Malformed", `${missing} is not a secondary address of ${eniID}.`);
  }
  return { AsyncTaskId: account.newID("task") };
}

/** A new ENI record. MACs count up, so that they are the same in every run. */
export function newEni(
  account: VolcengineAccount,
  subnet: SimulatedSubnet,
  given: Pick<SimulatedEni, "name" | "description" | "type" | "tags" | "securityGroupIDs"> & {
    readonly addresses: readonly string[];
    readonly mac?: string;
  },
): SimulatedEni {
  const now = account.clock.now();
  const serial = account.next("mac").toString(16).padStart(6, "0");
  return {
    eniID: account.newID("eni"),
    name: given.name,
    description: given.description,
    type: given.type,
    status: "Creating",
    mac: given.mac ?? `00:16:3e:${serial.replace(/(..)(..)(..)/, "$1:$2:$3")}`,
    instanceID: undefined,
    vpcID: subnet.vpcID,
    zone: subnet.zone,
    subnetID: subnet.subnetID,
    subnet: subnet.cidr,
    addresses: given.addresses.map((address, index) => ({ address, primary: index === 0 })),
    securityGroupIDs: given.securityGroupIDs,
    tags: given.tags,
    serviceManaged: false,
    deleteOnTermination: false,
    createdAt: now,
    updatedAt: now,
  };
}

/** Ends an asynchronous change, unless something else happened to the ENI meanwhile. */
function moveEni(
  account: VolcengineAccount,
  eniID: string,
  from: EniStatus,
  to: Partial<Pick<SimulatedEni, "status" | "instanceID">>,
): void {
  const eni = account.enis.get(eniID);
  if (eni?.status === from) account.putEni(eniID, { ...eni, ...to });
}

/** Addresses that an attached ENI may have, the primary one included. */
function attachedLimit({ limits, behaviour }: VolcengineAccount): number {
  return behaviour.limitCountsPrimary ? limits.addressesPerEni : limits.addressesPerEni + 1;
}

/** An ENI in the middle of a change refuses the next one (facts §2.13, InvalidEni.InvalidStatus). */
function requireStatus(eni: SimulatedEni, allowed: readonly EniStatus[]): void {
  if (allowed.includes(eni.status)) return;
  throw refuse("InvalidEni.InvalidStatus", `${eni.eniID} is ${eni.status}, not ${allowed.join(" or ")}.`);
}

/** Attach and detach need RUNNING or STOPPED (facts §2.2, §2.3; the code is not in the facts). */
function requireSettledInstance(account: VolcengineAccount, instanceID: string): void {
  const status = account.instances.get(instanceID)?.status;
  if (status === undefined || status === "RUNNING" || status === "STOPPED") return;
  throw refuse("InvalidInstance.InvalidStatus", `The instance ${instanceID} is ${status}.`);
}
