import { contains, InvalidError, parseCidr } from "@cocoon-net/core";
import { type SimulatorClock, systemClock } from "../clock.ts";
import { type FaultRule, Faults } from "../faults.ts";
import { HttpListener, type ListenAddress } from "../http-listener.ts";
import { VolcengineAccount, type VolcengineDelays, type VolcengineLimits } from "./account.ts";
import { VolcengineApi } from "./api.ts";
import { newEni } from "./eni-actions.ts";
import { inspect } from "./inspection.ts";
import {
  type AddInstanceOptions,
  addInstance,
  deleteInstance,
  startInstance,
  stopInstance,
} from "./instances.ts";
import { VolcengineMetadata } from "./metadata.ts";
import type { AccessKey } from "./signature.ts";
import type { SimulatedEni, SimulatedInstance, VolcengineChange, VolcengineState } from "./state.ts";

export interface VolcengineSimulatorOptions {
  /** Default: `AKTEST` with secret `SKTEST`. */
  readonly accessKeys?: readonly AccessKey[];
  /** Default `cn-beijing`. */
  readonly region?: string;
  /** Default: the region with `-a`. */
  readonly zone?: string;
  /** Range of the VPC. Default `172.20.0.0/16`. */
  readonly vpcCIDR?: string;
  /** Subnet of the instances' primary ENIs, a secondary range of the VPC if outside. Default `172.31.0.0/20`. */
  readonly nodeSubnet?: string;
  readonly clock?: SimulatorClock;
  readonly limits?: Partial<VolcengineLimits>;
  readonly delays?: Partial<VolcengineDelays>;
}

export interface MetadataListenAddress extends ListenAddress {
  /** Answers as this instance whoever asks; default: by the source address of the connection. */
  readonly instanceID?: string;
  /** Plays `HttpTokens: required` (facts §4.2). Default false. */
  readonly tokenRequired?: boolean;
}

export interface ListenOptions {
  readonly api?: ListenAddress;
  readonly metadata?: MetadataListenAddress;
}

export interface Listening {
  /** `http://127.0.0.1:43210`, with the real port. */
  readonly api: string | undefined;
  readonly metadata: string | undefined;
}

const defaultLimits: VolcengineLimits = {
  enisPerInstance: 8,
  addressesPerEni: 21,
  secondaryAddressesPerFreeEni: 49,
  enisPerRegion: 5000,
  subnetsPerVpc: 200,
  securityGroupsPerEni: 5,
  clockSkewMs: 15 * 60_000,
  reads: undefined,
  writes: undefined,
};

const defaultDelays: VolcengineDelays = {
  createEniMs: 200,
  attachMs: 300,
  detachMs: 300,
  deleteEniMs: 100,
  createSubnetMs: 200,
  instanceMs: 200,
};

/**
 * One Volcengine account in one region: the vpc and ecs APIs and the instance metadata service over HTTP, on
 * state kept in memory. Written against the published behaviour; each rule names its source.
 */
export class VolcengineSimulator implements AsyncDisposable {
  readonly region: string;
  readonly zone: string;
  readonly vpcID: string;
  readonly securityGroupID: string;
  readonly accessKeys: readonly AccessKey[];
  readonly #account: VolcengineAccount;
  readonly #faults = new Faults((action) => action.startsWith("Describe"));
  readonly #api: VolcengineApi;
  readonly #nodeSubnetID: string;
  readonly #listeners: HttpListener[] = [];

  /** @throws {InvalidError} on a malformed CIDR */
  constructor(options: VolcengineSimulatorOptions = {}) {
    this.region = options.region ?? "cn-beijing";
    this.zone = options.zone ?? `${this.region}-a`;
    this.accessKeys = options.accessKeys ?? [{ accessKeyID: "AKTEST", secretAccessKey: "SKTEST" }];
    this.#account = new VolcengineAccount(
      this.region,
      { ...defaultLimits, ...options.limits },
      { ...defaultDelays, ...options.delays },
      options.clock ?? systemClock,
    );
    this.#api = new VolcengineApi(this.#account, this.accessKeys, this.#faults);

    const cidr = options.vpcCIDR ?? "172.20.0.0/16";
    const nodes = options.nodeSubnet ?? "172.31.0.0/20";
    const inside = contains(parseCidr(cidr, "vpcCIDR"), parseCidr(nodes, "nodeSubnet"));
    this.vpcID = this.#account.newID("vpc");
    this.#account.putVpc({
      vpcID: this.vpcID,
      name: "default",
      cidr,
      secondaryCIDRs: inside ? [] : [nodes],
      status: "Available",
      isDefault: true,
    });
    this.securityGroupID = this.#account.newID("sg");
    this.#account.putSecurityGroup({
      securityGroupID: this.securityGroupID,
      name: "Default",
      vpcID: this.vpcID,
    });
    this.#nodeSubnetID = this.addSubnet({ cidr: nodes, name: "nodes" });
  }

  /** Opens the HTTP endpoints that are named; may be called again for more. Port 0 takes a free one. */
  async listen(options: ListenOptions): Promise<Listening> {
    const { api, metadata } = options;
    return {
      api: api && (await this.#open(api, (request) => inspect(this, request) ?? this.#api.answer(request))),
      metadata: metadata && (await this.#open(metadata, this.#metadataHandler(metadata))),
    };
  }

  /** Everything as it truly is, whatever the API shows. */
  describeState(): VolcengineState {
    return this.#account.describe();
  }

  /** Requests so far by action, refused ones included. */
  get calls(): Readonly<Record<string, number>> {
    return this.#api.calls;
  }

  /** Calls `listener` synchronously after each change; the returned function ends that. */
  onChange(listener: (change: VolcengineChange) => void): () => void {
    return this.#account.onChange(listener);
  }

  injectFault(rule: FaultRule): void {
    this.#faults.add(rule);
  }

  clearFaults(): void {
    this.#faults.clear();
  }

  /** A RUNNING instance with its primary ENI. @throws {InvalidError} when the id or address is taken. */
  addInstance(options: AddInstanceOptions = {}): SimulatedInstance {
    const vpc = this.#account.vpcs.get(this.vpcID);
    if (vpc === undefined) throw new InvalidError(`the VPC ${this.vpcID} does not exist`);
    return addInstance(this.#account, vpc, { zone: this.zone, subnetID: this.#nodeSubnetID }, options);
  }

  /** RUNNING → STOPPING → STOPPED; ENIs stay attached. @throws {NotFoundError} */
  stopInstance(instanceID: string): void {
    stopInstance(this.#account, instanceID);
  }

  /** STOPPED → STARTING → RUNNING. @throws {NotFoundError} */
  startInstance(instanceID: string): void {
    startInstance(this.#account, instanceID);
  }

  /** DELETING → gone; secondary ENIs get detached and stay. @throws {NotFoundError} */
  deleteInstance(instanceID: string): void {
    deleteInstance(this.#account, instanceID);
  }

  /** A subnet of somebody else, Available at once. Returns its id. */
  addSubnet(options: { cidr: string; name?: string; zone?: string; tags?: Record<string, string> }): string {
    const subnetID = this.#account.newID("subnet");
    this.#account.putSubnet(subnetID, {
      subnetID,
      name: options.name ?? "",
      description: "",
      vpcID: this.vpcID,
      zone: options.zone ?? this.zone,
      cidr: options.cidr,
      status: "Available",
      tags: options.tags ?? {},
      createdAt: this.#account.clock.now(),
    });
    return subnetID;
  }

  /** An ENI of somebody else, InUse on `instanceID` or Available. */
  addEni(options: {
    subnetID: string;
    instanceID?: string;
    addresses: readonly string[];
    name?: string;
    tags?: Record<string, string>;
  }): SimulatedEni {
    const subnet = this.#account.subnets.get(options.subnetID);
    if (subnet === undefined) throw new InvalidError(`there is no subnet ${options.subnetID}`);
    const eni = newEni(this.#account, subnet, {
      name: options.name ?? "",
      description: "",
      type: "secondary",
      tags: options.tags ?? {},
      securityGroupIDs: [this.securityGroupID],
      addresses: options.addresses,
    });
    const status = options.instanceID === undefined ? "Available" : "InUse";
    this.#account.putEni(eni.eniID, { ...eni, status, instanceID: options.instanceID });
    return eni;
  }

  /** Closes the endpoints and drops changes under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#account.close();
    await Promise.all(this.#listeners.splice(0).map((listener) => listener[Symbol.asyncDispose]()));
  }

  #metadataHandler(options: MetadataListenAddress): Parameters<typeof HttpListener.open>[1] {
    const metadata = new VolcengineMetadata(this.#account, options.tokenRequired ?? false);
    return (request, from) => metadata.answer(options.instanceID ?? metadata.instanceAt(from), request);
  }

  async #open(address: ListenAddress, handler: Parameters<typeof HttpListener.open>[1]): Promise<string> {
    const listener = await HttpListener.open(address, handler);
    this.#listeners.push(listener);
    return listener.url;
  }
}
