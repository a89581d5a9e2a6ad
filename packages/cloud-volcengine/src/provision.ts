import {
  ConflictError,
  contains,
  InvalidError,
  type NodeNetwork,
  NotFoundError,
  type ProvisionRequest,
  parseAddress,
  parseCidr,
} from "@cocoon-net/core";
import { PoolGrowth } from "./pool-growth.ts";
import { ensureSubnet } from "./provision-subnet.ts";
import { findInstance, listEnis } from "./reads.ts";
import type { Steps } from "./steps.ts";
import type { Instance } from "./wire.ts";

/**
 * Gives the node its subnet and the addresses that it needs, on ENIs. Every run looks at what there is and does what
 * is missing, so that an interrupted one is finished by the next.
 */
export async function provision(steps: Steps, request: ProvisionRequest): Promise<NodeNetwork> {
  checkRequest(request);
  const instance = await ownInstance(steps, request);
  const { subnet, fresh } = await ensureSubnet(steps, request);
  const listed = fresh ? [] : await listEnis(steps.api, { SubnetId: subnet.subnetID });
  return await new PoolGrowth(steps, request, instance, subnet).run(listed);
}

function checkRequest(request: ProvisionRequest): void {
  const subnet = parseCidr(request.subnet, "subnet");
  if (!Number.isInteger(request.poolSize) || request.poolSize < 1) {
    throw new InvalidError(`the pool size ${request.poolSize} is not a whole number above 0`);
  }
  for (const address of request.addresses ?? []) {
    if (contains(subnet, { base: parseAddress(address), prefix: 32 })) continue;
    throw new InvalidError(`${address} is not an address of ${request.subnet}`);
  }
}

async function ownInstance({ api }: Steps, request: ProvisionRequest): Promise<Instance> {
  const { instanceID, network, region } = request.instance;
  const keyRegion = await api.region();
  if (keyRegion !== region) {
    throw new InvalidError(`the access key is used for ${keyRegion}, but this node is in ${region}`, {
      hint: "set VOLCENGINE_REGION",
    });
  }
  const instance = await findInstance(api, instanceID);
  if (instance === undefined) {
    throw new NotFoundError(`the account of this access key has no instance ${instanceID} in ${region}`, {
      hint: "use an access key of the account that owns this node",
    });
  }
  if (instance.vpcID === network) return instance;
  throw new ConflictError(`${instanceID} is in ${instance.vpcID}, its metadata says ${network}`);
}
