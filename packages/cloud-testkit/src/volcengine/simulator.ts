import { contains, InvalidError, parseCidr } from "@cocoon-net/core";
import { chosen } from "../choices.ts";
import { type SimulatorClock, systemClock } from "../clock.ts";
import { Faults } from "../faults.ts";
import type { HttpHandler, ListenAddress } from "../http-listener.ts";
import { type InstanceControl, inspect } from "../inspection.ts";
import { seededRandom } from "../random.ts";
import { CloudSimulator, type CommonOptions, type Listening } from "../simulator.ts";
import { Timeline } from "../timeline.ts";
import { type InstanceRole, VolcengineAccess } from "./access.ts";
import { VolcengineAccount, type VolcengineDelays, type VolcengineLimits } from "./account.ts";
import { actionNames, isRead, VolcengineApi } from "./api.ts";
import { behaviourChoices, type VolcengineBehaviour } from "./behaviour.ts";
import { newEni } from "./eni-actions.ts";
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

export interface VolcengineSimulatorOptions extends CommonOptions, Partial<VolcengineBehaviour> {
  /** Default: `AKTEST` with secret `SKTEST`. */
  readonly accessKeys?: readonly AccessKey[];
  /** A role of every instance: the metadata service issues temporary keys for it (facts §4.3). Default none. */
  readonly role?: InstanceRole;
  /** Actions that nobody may call, e.g. `CreateSubnet`. */
  readonly denied?: readonly string[];
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
  /** Plays `HttpTokens: required` (facts §4.2). Default: as the simulator's `metadataTokens` has it. */
  readonly tokenRequired?: boolean;
}

export interface ListenOptions {
  readonly api?: ListenAddress;
  readonly metadata?: MetadataListenAddress;
}

export const defaultLimits: VolcengineLimits = {
  enisPerInstance: 8,
  addressesPerEni: 21,
  secondaryAddressesPerFreeEni: 49,
  enisPerRegion: 5000,
  subnetsPerVpc: 200,
  securityGroupsPerEni: 5,
  addressesPerSecurityGroup: 10_000,
  tagsPerResource: 20,
  clockSkewMs: 15 * 60_000,
  reads: undefined,
  writes: undefined,
  actions: {},
};

export const defaultDelays: VolcengineDelays = {
  createEniMs: 200,
  attachMs: 300,
  detachMs: 300,
  deleteEniMs: 100,
  createSubnetMs: 200,
  instanceMs: 200,
  assignLockMs: 0,
  listLagMs: 0,
  metadataLagMs: 0,
  clientTokenMs: Number.POSITIVE_INFINITY,
};

/**
 * One Volcengine account in one region: the vpc and ecs APIs and the instance metadata service over HTTP, on
 * state kept in memory. Written against the published behaviour; each rule names its source.
 */
export class VolcengineSimulator extends CloudSimulator<VolcengineState, VolcengineChange> {
  readonly region: string;
  readonly zone: string;
  readonly vpcID: string;
  readonly securityGroupID: string;
  readonly accessKeys: readonly AccessKey[];
  readonly #account: VolcengineAccount;
  readonly #access: VolcengineAccess;
  readonly #api: VolcengineApi;
  readonly #nodeSubnetID: string;

  /** @throws {InvalidError} on a malformed CIDR, or a denied action that does not exist */
  constructor(options: VolcengineSimulatorOptions = {}) {
    const random = seededRandom(options.seed ?? 1);
    const clock = options.clock ?? systemClock;
    const timeline = new Timeline<VolcengineChange>({ clock, random, jitter: options.jitter ?? 0 });
    const faults = new Faults({ actions: actionNames, isRead, random, now: () => timeline.moment });
    super(timeline, faults);
    this.region = options.region ?? "cn-beijing";
    this.zone = options.zone ?? `${this.region}-a`;
    this.accessKeys = options.accessKeys ?? [{ accessKeyID: "AKTEST", secretAccessKey: "SKTEST" }];
    this.#account = new VolcengineAccount({
      region: this.region,
      limits: { ...defaultLimits, ...options.limits },
      delays: { ...defaultDelays, ...options.delays },
      behaviour: chosen(behaviourChoices, options),
      timeline,
    });
    const { denied = [], role } = options;
    for (const action of denied) {
      if (!actionNames.has(action))
        throw new InvalidError(`there is no action ${action} that could be denied`);
    }
    this.#access = new VolcengineAccess(clock, { keys: this.accessKeys, denied, role });
    this.#api = new VolcengineApi(this.#account, { access: this.#access, faults, calls: this.callLog });

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
    const control = this.#instanceControl();
    return {
      api:
        api &&
        (await this.open(api, (request) => inspect(this, control, request) ?? this.#api.answer(request))),
      metadata: metadata && (await this.open(metadata, this.#metadataHandler(metadata))),
    };
  }

  override describeState(): VolcengineState {
    return this.#account.describe();
  }

  /** From now on, keys that were issued for the instances' role are refused. */
  revokeRoleCredentials(): void {
    this.#access.revoke();
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

  #instanceControl(): InstanceControl {
    return {
      options: ["instanceID", "zone", "primaryAddress", "primaryMAC", "type"],
      add: (options) => this.addInstance(options),
      verbs: {
        stop: (id) => this.stopInstance(id),
        start: (id) => this.startInstance(id),
        delete: (id) => this.deleteInstance(id),
      },
      find: (id) => this.#account.instances.get(id),
    };
  }

  #metadataHandler(options: MetadataListenAddress): HttpHandler {
    const { metadataTokens } = this.#account.behaviour;
    const tokens =
      options.tokenRequired === undefined ? metadataTokens : options.tokenRequired ? "required" : "optional";
    const metadata = new VolcengineMetadata(this.#account, this.#access, tokens);
    return (request, from) => metadata.answer(options.instanceID ?? metadata.instanceAt(from), request);
  }
}
