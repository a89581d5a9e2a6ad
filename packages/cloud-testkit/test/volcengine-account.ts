import { VolcengineSimulator, type VolcengineSimulatorOptions } from "@cocoon-net/cloud-testkit";
import { expect } from "vitest";
import { SignedClient, type SigningOptions } from "./signed-client.ts";

export const slow = 60_000;
export const patience = { timeout: 10_000 };
export const quick = {
  createEniMs: 0,
  attachMs: 0,
  detachMs: 0,
  deleteEniMs: 0,
  createSubnetMs: 0,
  instanceMs: 0,
};

export interface Account extends AsyncDisposable {
  readonly simulator: VolcengineSimulator;
  readonly client: SignedClient;
  readonly api: string;
  /** Calls and expects success; waits until nothing is in the middle of a change. */
  run(
    action: string,
    parameters?: Record<string, string | number>,
    service?: string,
  ): Promise<Record<string, unknown>>;
  /** Calls and gives the error's code. */
  refusal(
    action: string,
    parameters?: Record<string, string | number>,
    options?: SigningOptions,
  ): Promise<unknown>;
  eni(
    eniID: unknown,
  ): { status: string; instanceID: string | undefined; addresses: readonly unknown[] } | undefined;
}

export async function start(options: VolcengineSimulatorOptions = {}): Promise<Account> {
  const simulator = new VolcengineSimulator({ delays: quick, ...options });
  const { api } = await simulator.listen({ api: { host: "127.0.0.1", port: 0 } });
  const client = new SignedClient(api);
  const settled = () => {
    const { vpcs, subnets, enis } = simulator.describeState();
    return [...vpcs, ...subnets, ...enis].every(({ status }) => status === "Available" || status === "InUse");
  };
  return {
    simulator,
    client,
    api: api ?? "",
    run: async (action, parameters = {}, service = "vpc") => {
      const { status, body } = await client.call(action, parameters, { service });
      expect({ status, error: body.ResponseMetadata.Error }).toEqual({ status: 200 });
      if (!action.startsWith("Describe")) await expect.poll(settled, patience).toBe(true);
      return body.Result ?? {};
    },
    refusal: async (action, parameters = {}, signing = {}) => {
      const { body } = await client.call(action, parameters, signing);
      return body.ResponseMetadata.Error?.Code;
    },
    eni: (eniID) => simulator.describeState().enis.find((eni) => eni.eniID === eniID),
    [Symbol.asyncDispose]: () => simulator[Symbol.asyncDispose](),
  };
}

export async function startWithSubnet(options: VolcengineSimulatorOptions = {}) {
  const account = await start(options);
  const subnetID = account.simulator.addSubnet({ cidr: "172.20.1.0/24" });
  const eni = { SubnetId: subnetID, "SecurityGroupIds.1": account.simulator.securityGroupID };
  return { account, subnetID, eni };
}
