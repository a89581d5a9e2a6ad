import type { VolcengineAccount } from "./account.ts";
import { refuse } from "./api-fault.ts";
import { readPaging } from "./paging.ts";
import type { RequestParameters } from "./request-parameters.ts";
import { instanceOnTheWire } from "./wire.ts";

type Result = Record<string, unknown>;

/** Facts §2.10: NextToken paging only; an id that does not exist is simply not in the answer. */
export function describeInstances(account: VolcengineAccount, params: RequestParameters): Result {
  const ids = params.list("InstanceIds");
  const vpcID = params.optional("VpcId");
  const zone = params.optional("ZoneId");
  const status = params.optional("Status");
  const page = readPaging(params, { pageNumber: false });
  params.refuseOthers();
  const bad = ids.find((id) => !/^i-[\w-]+$/.test(id));
  // The code is not in the facts; that an id has a form is.
  if (bad !== undefined) throw refuse("InvalidInstanceId.Malformed", `${bad} is not an instance id.`);
  const found = [...account.instances.values()].filter(
    (instance) =>
      (ids.length === 0 || ids.includes(instance.instanceID)) &&
      (vpcID === undefined || instance.vpcID === vpcID) &&
      (zone === undefined || instance.zone === zone) &&
      (status === undefined || instance.status === status),
  );
  const { items, fields } = page(found, (instance) => instance.instanceID);
  return {
    Instances: items.map((instance) => instanceOnTheWire(account, instance)),
    TotalCount: found.length,
    ...fields,
  };
}

/** Facts §2.10: every type has the limits of the simulator. */
export function describeInstanceTypes(account: VolcengineAccount, params: RequestParameters): Result {
  const named = [...params.list("InstanceTypeIds"), ...params.list("InstanceTypes")];
  const page = readPaging(params, { pageNumber: false });
  params.refuseOthers();
  const known = new Set([...account.instances.values()].map((instance) => instance.type));
  const types = named.length > 0 ? named : [...known];
  const { items, fields } = page(types, (type) => type);
  return {
    InstanceTypes: items.map((type) => ({
      InstanceTypeId: type,
      Network: {
        MaximumNetworkInterfaces: account.limits.enisPerInstance,
        MaximumPrivateIpv4AddressesPerNetworkInterface: account.limits.addressesPerEni,
      },
    })),
    TotalCount: types.length,
    ...fields,
  };
}
