import {
  type Cidr,
  formatAddress,
  formatCidr,
  InvalidError,
  lastOf,
  parseAddress,
  parseCidr,
} from "@cocoon-net/core";
import type { SimulatorClock } from "../clock.ts";
import type { BucketRate } from "../rate-limit.ts";
import { type Moment, Table, type Timeline } from "../timeline.ts";
import { refuse } from "./api-fault.ts";
import type { VolcengineBehaviour } from "./behaviour.ts";
import {
  eniChange,
  type SimulatedEni,
  type SimulatedInstance,
  type SimulatedSecurityGroup,
  type SimulatedSubnet,
  type SimulatedVpc,
  type VolcengineChange,
  type VolcengineState,
} from "./state.ts";

export interface VolcengineLimits {
  /** ENIs of one instance, the primary one included (`MaximumNetworkInterfaces`, facts §2.10). Default 8. */
  readonly enisPerInstance: number;
  /**
   * IPv4 addresses of an attached ENI, its primary address included
   * (`MaximumPrivateIpv4AddressesPerNetworkInterface`, facts §2.10). Default 21: 20 secondary ones (§3.2).
   */
  readonly addressesPerEni: number;
  /** Secondary addresses of an ENI that is not attached (facts §3.2). Default 49. */
  readonly secondaryAddressesPerFreeEni: number;
  /** Secondary ENIs of the account in the region (facts §3.2). Default 5,000. */
  readonly enisPerRegion: number;
  /** Facts §3.2. Default 200. */
  readonly subnetsPerVpc: number;
  /** Facts §3.2. Default 5. */
  readonly securityGroupsPerEni: number;
  /** Most a request's `X-Date` may differ from the server's clock, in milliseconds. Default 15 minutes. */
  readonly clockSkewMs: number;
  /** Member addresses of one security group (facts §3.2: finite; how many is not said). Default 10,000. */
  readonly addressesPerSecurityGroup: number;
  /** Tags of one resource (facts §3.2: not confirmed). Default 20. */
  readonly tagsPerResource: number;
  /** Token buckets of the account (facts §3.1); undefined = no throttling. */
  readonly reads: BucketRate | undefined;
  readonly writes: BucketRate | undefined;
  /** Token buckets of single actions, beside those (facts §3.1). Default none. */
  readonly actions: Readonly<Record<string, BucketRate>>;
}

/** How long the asynchronous changes take, in milliseconds. */
export interface VolcengineDelays {
  /** Creating → Available of an ENI. */
  readonly createEniMs: number;
  readonly attachMs: number;
  readonly detachMs: number;
  readonly deleteEniMs: number;
  /** Pending → Available of a subnet, and of its VPC meanwhile. */
  readonly createSubnetMs: number;
  /** Stopping, starting or deleting an instance. */
  readonly instanceMs: number;
  /** How long the VPC is Pending after addresses were assigned: a "VPC-wide server lock" (facts §5.4). Default 0. */
  readonly assignLockMs: number;
  /** How far lists lag behind; nothing is said of it. Default 0. */
  readonly listLagMs: number;
  /** How far the metadata service lags behind the API (facts §4.1). Default 0. */
  readonly metadataLagMs: number;
  /** How long a client token is remembered (facts §2.12: not found). Default: for ever. */
  readonly clientTokenMs: number;
}

export interface VolcengineAccountOptions {
  readonly region: string;
  readonly limits: VolcengineLimits;
  readonly delays: VolcengineDelays;
  readonly behaviour: VolcengineBehaviour;
  readonly timeline: Timeline<VolcengineChange>;
}

interface Tables {
  readonly vpcs: Table<SimulatedVpc>;
  readonly subnets: Table<SimulatedSubnet>;
  readonly securityGroups: Table<SimulatedSecurityGroup>;
  readonly enis: Table<SimulatedEni>;
  readonly instances: Table<SimulatedInstance>;
}

/** The simulated account in one region: its records, who listens to them, and their asynchronous changes. */
export class VolcengineAccount {
  readonly region: string;
  readonly limits: VolcengineLimits;
  readonly delays: VolcengineDelays;
  readonly behaviour: VolcengineBehaviour;
  readonly timeline: Timeline<VolcengineChange>;
  readonly #options: VolcengineAccountOptions;
  readonly #tables: Tables;
  readonly #sequences = new Map<string, number>();
  /** The latest lock of each VPC. */
  readonly #locks = new Map<string, number>();
  #failing = false;

  constructor(options: VolcengineAccountOptions, tables?: Tables) {
    const { timeline } = options;
    this.#options = options;
    this.region = options.region;
    this.limits = options.limits;
    this.delays = options.delays;
    this.behaviour = options.behaviour;
    this.timeline = timeline;
    this.#tables = tables ?? {
      vpcs: new Table(timeline),
      subnets: new Table(timeline),
      securityGroups: new Table(timeline),
      enis: new Table(timeline),
      instances: new Table(timeline),
    };
  }

  get clock(): SimulatorClock {
    return this.timeline.clock;
  }
  get vpcs(): ReadonlyMap<string, SimulatedVpc> {
    return this.#tables.vpcs.all;
  }
  get subnets(): ReadonlyMap<string, SimulatedSubnet> {
    return this.#tables.subnets.all;
  }
  get securityGroups(): ReadonlyMap<string, SimulatedSecurityGroup> {
    return this.#tables.securityGroups.all;
  }
  get enis(): ReadonlyMap<string, SimulatedEni> {
    return this.#tables.enis.all;
  }
  get instances(): ReadonlyMap<string, SimulatedInstance> {
    return this.#tables.instances.all;
  }

  describe(): VolcengineState {
    return {
      region: this.region,
      vpcs: [...this.vpcs.values()],
      subnets: [...this.subnets.values()],
      securityGroups: [...this.securityGroups.values()],
      enis: [...this.enis.values()],
      instances: [...this.instances.values()],
    };
  }

  /** The account as it was, to read from. */
  asOf(moment: Moment): VolcengineAccount {
    const { vpcs, subnets, securityGroups, enis, instances } = this.#tables;
    return new VolcengineAccount(this.#options, {
      vpcs: vpcs.asOf(moment),
      subnets: subnets.asOf(moment),
      securityGroups: securityGroups.asOf(moment),
      enis: enis.asOf(moment),
      instances: instances.asOf(moment),
    });
  }

  /** The next number of a sequence, from 1; ids are readable and the same in every run. */
  next(sequence: string): number {
    const value = (this.#sequences.get(sequence) ?? 0) + 1;
    this.#sequences.set(sequence, value);
    return value;
  }

  newID(prefix: string): string {
    return `${prefix}-sim${String(this.next(prefix)).padStart(5, "0")}`;
  }

  /** What `run` starts will fail, instead of succeed, when its time has come (a fault). */
  failing<T>(run: () => T): T {
    this.#failing = true;
    try {
      return run();
    } finally {
      this.#failing = false;
    }
  }

  /** Ends an asynchronous change after its delay. */
  later(ms: number, succeed: () => void, fail: () => void = succeed): void {
    this.timeline.later(ms, this.#failing ? fail : succeed);
  }

  putVpc(after: SimulatedVpc): void {
    const before = this.#tables.vpcs.put(after.vpcID, after);
    this.timeline.tell({ kind: "vpc", before, after });
  }

  putSecurityGroup(group: SimulatedSecurityGroup): void {
    this.#tables.securityGroups.put(group.securityGroupID, group);
  }

  putSubnet(subnetID: string, after: SimulatedSubnet | undefined): void {
    const before = this.#tables.subnets.put(subnetID, after);
    this.timeline.tell({ kind: "subnet", before, after });
  }

  putEni(eniID: string, given: SimulatedEni | undefined): void {
    const after = given && { ...given, updatedAt: this.clock.now() };
    const before = this.#tables.enis.put(eniID, after);
    this.timeline.tell({ kind: "eni", what: eniChange(before, after), before, after });
  }

  putInstance(instanceID: string, after: SimulatedInstance | undefined): void {
    const before = this.#tables.instances.put(instanceID, after);
    this.timeline.tell({ kind: "instance", before, after });
  }

  /** Makes the VPC Pending for a while. */
  lockVpc(vpcID: string, ms: number): void {
    const vpc = this.vpcs.get(vpcID);
    if (vpc === undefined || ms === 0) return;
    this.putVpc({ ...vpc, status: "Pending" });
    const lock = this.next("lock");
    this.#locks.set(vpcID, lock);
    this.timeline.later(ms, () => {
      const now = this.vpcs.get(vpcID);
      if (now !== undefined && this.#locks.get(vpcID) === lock) this.putVpc({ ...now, status: "Available" });
    });
  }

  /** Addresses of a subnet that nothing holds, ascending. */
  freeAddresses(subnet: SimulatedSubnet): number[] {
    const used = new Set<number>();
    for (const eni of this.enis.values()) {
      if (eni.subnetID !== subnet.subnetID) continue;
      for (const { address } of eni.addresses) used.add(parseAddress(address));
    }
    const [first, last] = usableRange(parseCidr(subnet.cidr));
    const free: number[] = [];
    for (let address = first; address <= last; address++) if (!used.has(address)) free.push(address);
    return free;
  }
}

/**
 * Three addresses of a subnet are the platform's (facts §3.2: a /20 gives 4,093). Which ones the vendor does
 * not say; taken here: network address, the gateway behind it, broadcast.
 */
function usableRange(cidr: Cidr): readonly [first: number, last: number] {
  return [cidr.base + 2, lastOf(cidr) - 1];
}

/** @throws QuotaExceeded.SecurityGroupIp (facts §2.7, §3.2) when a group has no room for more member addresses */
export function requireGroupRoom(
  account: VolcengineAccount,
  securityGroupIDs: readonly string[],
  added: number,
): void {
  for (const id of securityGroupIDs) {
    const used = addressesInGroup(account, id);
    if (used + added <= account.limits.addressesPerSecurityGroup) continue;
    throw refuse("QuotaExceeded.SecurityGroupIp", `The security group ${id} has ${used} addresses.`);
  }
}

export function addressesInGroup(account: VolcengineAccount, securityGroupID: string): number {
  let sum = 0;
  for (const eni of account.enis.values()) {
    if (eni.securityGroupIDs.includes(securityGroupID)) sum += eni.addresses.length;
  }
  return sum;
}

/** Takes `count` addresses. @throws InsufficientIpInSubnet (facts §2.7) */
export function takeAddresses(account: VolcengineAccount, subnet: SimulatedSubnet, count: number): string[] {
  const free = account.freeAddresses(subnet);
  if (free.length < count) {
    throw refuse(
      "InsufficientIpInSubnet",
      `The subnet ${subnet.subnetID} has ${free.length} free addresses, ${count} are needed.`,
    );
  }
  return free.slice(0, count).map(formatAddress);
}

/** Takes exactly these addresses. @throws InvalidPrivateIp.Malformed (facts §2.7), also when one is taken. */
export function claimAddresses(
  account: VolcengineAccount,
  subnet: SimulatedSubnet,
  addresses: readonly string[],
): string[] {
  const free = new Set(account.freeAddresses(subnet).map(formatAddress));
  for (const address of addresses) {
    if (free.delete(address)) continue;
    throw refuse("InvalidPrivateIp.Malformed", `${address} is not a free address of ${subnet.cidr}.`);
  }
  return [...addresses];
}

/** Normal form of a CIDR parameter. @throws InvalidCidr.Malformed */
export function readCidr(text: string): Cidr {
  try {
    const cidr = parseCidr(text);
    if (formatCidr(cidr) === text) return cidr;
  } catch (error) {
    if (!(error instanceof InvalidError)) throw error;
  }
  throw refuse("InvalidCidr.Malformed", `${text} is not a valid CIDR block.`);
}
