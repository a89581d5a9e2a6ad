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
import { refuse } from "./api-fault.ts";
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
  /** Token buckets of the account (facts §3.1); absent = no throttling. */
  readonly reads: { readonly perSecond: number; readonly burst: number } | undefined;
  readonly writes: { readonly perSecond: number; readonly burst: number } | undefined;
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
}

/** The simulated account in one region: its records, who listens to them, and their asynchronous changes. */
export class VolcengineAccount {
  readonly region: string;
  readonly limits: VolcengineLimits;
  readonly delays: VolcengineDelays;
  readonly clock: SimulatorClock;
  readonly #vpcs = new Map<string, SimulatedVpc>();
  readonly #subnets = new Map<string, SimulatedSubnet>();
  readonly #securityGroups = new Map<string, SimulatedSecurityGroup>();
  readonly #enis = new Map<string, SimulatedEni>();
  readonly #instances = new Map<string, SimulatedInstance>();
  readonly #listeners = new Set<(change: VolcengineChange) => void>();
  readonly #pending = new Set<() => void>();
  readonly #sequences = new Map<string, number>();

  constructor(region: string, limits: VolcengineLimits, delays: VolcengineDelays, clock: SimulatorClock) {
    this.region = region;
    this.limits = limits;
    this.delays = delays;
    this.clock = clock;
  }

  get vpcs(): ReadonlyMap<string, SimulatedVpc> {
    return this.#vpcs;
  }
  get subnets(): ReadonlyMap<string, SimulatedSubnet> {
    return this.#subnets;
  }
  get securityGroups(): ReadonlyMap<string, SimulatedSecurityGroup> {
    return this.#securityGroups;
  }
  get enis(): ReadonlyMap<string, SimulatedEni> {
    return this.#enis;
  }
  get instances(): ReadonlyMap<string, SimulatedInstance> {
    return this.#instances;
  }

  describe(): VolcengineState {
    return {
      region: this.region,
      vpcs: [...this.#vpcs.values()],
      subnets: [...this.#subnets.values()],
      securityGroups: [...this.#securityGroups.values()],
      enis: [...this.#enis.values()],
      instances: [...this.#instances.values()],
    };
  }

  onChange(listener: (change: VolcengineChange) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
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

  /** Does something later; dropped when the simulator is closed. */
  later(ms: number, run: () => void): void {
    const cancel = this.clock.after(ms, () => {
      this.#pending.delete(cancel);
      run();
    });
    this.#pending.add(cancel);
  }

  close(): void {
    for (const cancel of this.#pending) cancel();
    this.#pending.clear();
    this.#listeners.clear();
  }

  putVpc(after: SimulatedVpc): void {
    const before = this.#vpcs.get(after.vpcID);
    this.#vpcs.set(after.vpcID, after);
    this.#tell({ kind: "vpc", before, after });
  }

  putSecurityGroup(group: SimulatedSecurityGroup): void {
    this.#securityGroups.set(group.securityGroupID, group);
  }

  putSubnet(subnetID: string, after: SimulatedSubnet | undefined): void {
    const before = this.#subnets.get(subnetID);
    if (after === undefined) this.#subnets.delete(subnetID);
    else this.#subnets.set(subnetID, after);
    this.#tell({ kind: "subnet", before, after });
  }

  putEni(eniID: string, after: SimulatedEni | undefined): void {
    const before = this.#enis.get(eniID);
    if (after === undefined) this.#enis.delete(eniID);
    else this.#enis.set(eniID, { ...after, updatedAt: this.clock.now() });
    const stored = this.#enis.get(eniID);
    this.#tell({ kind: "eni", what: eniChange(before, stored), before, after: stored });
  }

  putInstance(instanceID: string, after: SimulatedInstance | undefined): void {
    const before = this.#instances.get(instanceID);
    if (after === undefined) this.#instances.delete(instanceID);
    else this.#instances.set(instanceID, after);
    this.#tell({ kind: "instance", before, after });
  }

  /** Addresses of a subnet that nothing holds, ascending. */
  freeAddresses(subnet: SimulatedSubnet): number[] {
    const used = new Set<number>();
    for (const eni of this.#enis.values()) {
      if (eni.subnetID !== subnet.subnetID) continue;
      for (const { address } of eni.addresses) used.add(parseAddress(address));
    }
    const [first, last] = usableRange(parseCidr(subnet.cidr));
    const free: number[] = [];
    for (let address = first; address <= last; address++) if (!used.has(address)) free.push(address);
    return free;
  }

  #tell(change: VolcengineChange): void {
    for (const listener of [...this.#listeners]) listener(change);
  }
}

/**
 * Three addresses of a subnet are the platform's (facts §3.2: a /20 gives 4,093). Which ones the vendor does
 * not say; taken here: network address, the gateway behind it, broadcast.
 */
export function usableRange(cidr: Cidr): readonly [first: number, last: number] {
  return [cidr.base + 2, lastOf(cidr) - 1];
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
