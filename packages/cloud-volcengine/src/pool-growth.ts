import {
  type CocoonError,
  ConflictError,
  ExhaustedError,
  InvalidError,
  type NodeNetwork,
  type ProvisionRequest,
  UnavailableError,
} from "@cocoon-net/core";
import { QuotaError } from "./api-errors.ts";
import { bringUp, type Rising } from "./bring-up.ts";
import { fillEni, sizeOfWanted, type Wanted } from "./eni-addresses.ts";
import { createEni, tagEnis } from "./eni-requests.ts";
import type { TypeLimits } from "./limits.ts";
import { networkOf } from "./network.ts";
import { eniName, eniNumber, eniTags } from "./ownership.ts";
import { type Need, type Plan, planRequests } from "./plan.ts";
import { withUse } from "./quota-use.ts";
import { listEnis, listSubnets } from "./reads.ts";
import { securityGroupsOf } from "./security-groups.ts";
import type { Steps } from "./steps.ts";
import { chooseWarm, sortEnis } from "./subnet-enis.ts";
import type { Eni, Instance, Subnet } from "./wire.ts";

/** From the ENIs that a node has in its subnet to those that it needs. */
export class PoolGrowth {
  readonly #steps: Steps;
  readonly #request: ProvisionRequest;
  readonly #instance: Instance;
  readonly #subnet: Subnet;
  /** The node's ENIs as last seen. */
  readonly #mine = new Map<string, Eni>();
  /** Asked for and not seen yet: how many addresses the ENI shall have. */
  readonly #rising = new Map<string, number>();
  /** ENIs that take no more addresses, as the cloud says. */
  readonly #full = new Set<string>();
  #warm: readonly Eni[] = [];
  #free: number;
  #others = 0;
  #mayCreate = true;
  /** For ENIs that failed on the way. */
  #secondTries = 2;
  #refusal: CocoonError | undefined;
  #securityGroupIDs: readonly string[] | undefined;

  constructor(steps: Steps, request: ProvisionRequest, instance: Instance, subnet: Subnet) {
    this.#steps = steps;
    this.#request = request;
    this.#instance = instance;
    this.#subnet = subnet;
    this.#free = subnet.freeAddresses;
  }

  async run(listed: readonly Eni[]): Promise<NodeNetwork> {
    const { mine, warm, unmarked } = sortEnis(listed, this.#request, this.#steps.progress);
    for (const eni of mine) this.#mine.set(eni.eniID, eni);
    this.#warm = warm;
    if (unmarked.length > 0) await this.#take(unmarked);
    // What is there, then what was asked for.
    do await this.#bringUp();
    while (await this.#grow());
    // What was refused is looked at too.
    await this.#bringUp();
    return await this.#network();
  }

  /** Marks ENIs as the node's. */
  async #take(enis: readonly Eni[]): Promise<void> {
    const { job, progress } = this.#steps;
    for (const eni of enis) progress(`taking ${eni.eniID} ("${eni.name}") over`);
    const tags = eniTags(this.#request, job.id, "pool");
    await tagEnis(
      this.#steps,
      enis.map((eni) => eni.eniID),
      tags,
    );
    for (const eni of enis) this.#mine.set(eni.eniID, { ...eni, tags: { ...eni.tags, ...tags } });
  }

  #need(): Need {
    const have = new Set([...this.#mine.values()].flatMap((eni) => eni.secondaryAddresses));
    const addresses = [...new Set(this.#request.addresses)].filter((address) => !have.has(address));
    return { addresses, count: Math.max(0, this.#request.poolSize - have.size - addresses.length) };
  }

  /** Asks for what is missing. False when nothing is, or there is no room for any of it. */
  async #grow(): Promise<boolean> {
    const need = this.#need();
    if (need.count + need.addresses.length === 0) return false;
    const { api, progress, limits: book } = this.#steps;
    const { type } = this.#instance;
    const limits = await book.of(api, type, progress);
    this.#others = await this.#countOthers();
    const slots = Math.max(0, limits.enis - this.#others - this.#mine.size);
    const warm = chooseWarm(this.#warm, need, { slots, perEni: limits.secondariesPerEni });
    if (warm.length > 0) {
      await this.#take(warm);
      this.#warm = this.#warm.filter((eni) => !warm.includes(eni));
      await this.#grow();
      return true;
    }
    const plan = planRequests(need, {
      enis: [...this.#mine.values()].map((eni) => ({
        eniID: eni.eniID,
        free: this.#full.has(eni.eniID) ? 0 : limits.secondariesPerEni - eni.secondaryAddresses.length,
      })),
      newEnis: this.#mayCreate ? slots : 0,
      perEni: Math.min(limits.secondariesPerEni, mostAtCreation),
      freeInSubnet: this.#free,
    });
    if (plan.fills.length + plan.creations.length > 0) {
      await this.#carryOut(plan);
      return true;
    }
    if (!limits.sure && this.#free > 0 && slots === 0) return await this.#tryOneMore(need, limits);
    this.#refusal ??= this.#noRoom(limits);
    return false;
  }

  /** ENIs of the instance that are not in the node's pool. */
  async #countOthers(): Promise<number> {
    const { nics, instanceID } = this.#instance;
    const all = nics ?? (await listEnis(this.#steps.api, { InstanceId: instanceID }));
    return all.filter(({ eniID }) => !this.#mine.has(eniID)).length;
  }

  async #carryOut(plan: Plan): Promise<void> {
    for (const { eniID, wanted } of plan.fills) {
      const eni = this.#mine.get(eniID);
      // After a refusal the plan is no longer right.
      if (eni === undefined || !(await this.#fill(eni, wanted))) return;
    }
    const numbers = new Set([...this.#mine.values()].map((eni) => eniNumber(this.#request.node, eni.name)));
    let number = 0;
    for (const wanted of plan.creations) {
      do number++;
      while (numbers.has(number));
      if (!(await this.#create(number, wanted))) return;
    }
  }

  async #fill(eni: Eni, wanted: Wanted): Promise<boolean> {
    const { eniID } = eni;
    const has = this.#rising.get(eniID) ?? eni.secondaryAddresses.length;
    try {
      await fillEni(this.#steps, eniID, this.#instance.vpcID, has, wanted);
    } catch (error) {
      if (!(error instanceof ExhaustedError)) throw takenSince(error, wanted);
      await this.#refused(error);
      // Where it was the subnet, its present count decides.
      if (!isOfSubnet(error)) this.#full.add(eniID);
      // It may have more by now than was known: it is looked at.
      this.#mine.delete(eniID);
      this.#rising.set(eniID, has);
      return false;
    }
    this.#free -= sizeOfWanted(wanted);
    this.#rising.set(eniID, has + sizeOfWanted(wanted));
    return true;
  }

  async #create(number: number, wanted: Wanted): Promise<boolean> {
    const { node } = this.#request;
    const { job } = this.#steps;
    this.#securityGroupIDs ??= await securityGroupsOf(this.#steps.api, this.#instance);
    try {
      const eniID = await createEni(this.#steps, {
        key: creationKey(number),
        name: eniName(node, number),
        vpcID: this.#instance.vpcID,
        subnetID: this.#subnet.subnetID,
        securityGroupIDs: this.#securityGroupIDs,
        wanted,
        tags: eniTags(this.#request, job.id),
      });
      this.#rising.set(eniID, sizeOfWanted(wanted));
      this.#free -= sizeOfWanted(wanted) + 1;
      return true;
    } catch (error) {
      if (!(error instanceof ExhaustedError)) throw takenSince(error, wanted);
      await this.#refused(error);
      this.#mayCreate = isOfSubnet(error) && this.#free > 1;
      return false;
    }
  }

  async #refused(error: ExhaustedError): Promise<void> {
    this.#steps.progress(error.message);
    if (!isOfSubnet(error)) {
      this.#refusal = error;
      return;
    }
    const known = this.#free;
    const [now] = await listSubnets(this.#steps.api, { SubnetIds: [this.#subnet.subnetID] });
    // A count that has not changed is not right: nothing more is asked of this subnet.
    this.#free = now === undefined || now.freeAddresses >= known ? 0 : now.freeAddresses;
    this.#refusal = error;
  }

  /** Whether the type's number of addresses counts the primary one, the first ENI tells. */
  async #tryOneMore(need: Need, limits: TypeLimits): Promise<boolean> {
    const eni = [...this.#mine.values()].find(
      ({ eniID, secondaryAddresses }) =>
        !this.#full.has(eniID) && secondaryAddresses.length === limits.secondariesPerEni,
    );
    const { limits: book } = this.#steps;
    const { type } = this.#instance;
    const [name] = need.addresses;
    const wanted = name === undefined ? { count: 1 } : { addresses: [name] };
    if (eni === undefined) this.#refusal ??= this.#noRoom(limits);
    else if (await this.#fill(eni, wanted)) {
      book.learn(type, { ...limits, secondariesPerEni: limits.secondariesPerEni + 1 });
      return true;
    } else if (hasCode(this.#refusal, "LimitExceeded.PrivateIpsPerEni")) {
      this.#refusal = this.#noRoom(book.learn(type, limits));
    }
    return false;
  }

  #noRoom(limits: TypeLimits): ExhaustedError {
    const { subnetID, cidr } = this.#subnet;
    const { instanceID, type } = this.#instance;
    // The smallest thing that could be added is an address, on an ENI of its own where all others are full.
    if (this.#free < 2) {
      return new ExhaustedError(`the subnet ${subnetID} (${cidr}) has ${this.#free} free addresses left`, {
        hint: "delete unused ENIs of the subnet, or choose a larger one",
      });
    }
    return new ExhaustedError(
      `${instanceID} (${type}) has no room: it has ${this.#others} other ENIs and may have ${limits.enis}, each with ${limits.secondariesPerEni} addresses for VMs`,
      { hint: "detach ENIs that are not needed, or ask for a smaller pool" },
    );
  }

  /** Brings what there is, and what was asked for, to InUse. */
  async #bringUp(): Promise<void> {
    const rising = new Map<string, Rising>();
    for (const eni of this.#mine.values()) {
      if (eni.status === "InUse") continue;
      rising.set(eni.eniID, { eniID: eni.eniID, known: eni, expected: 0 });
    }
    for (const [eniID, expected] of this.#rising) {
      rising.set(eniID, { eniID, known: this.#mine.get(eniID), expected });
    }
    if (rising.size === 0) return;
    const { instanceID } = this.#instance;
    const { enis, refusal, vanished } = await bringUp(this.#steps, instanceID, [...rising.values()]);
    for (const eniID of rising.keys()) this.#mine.delete(eniID);
    for (const eni of enis) {
      this.#mine.set(eni.eniID, eni);
      this.#checkFill(eni, rising.get(eni.eniID));
    }
    const made = vanished.filter((eniID) => this.#rising.has(eniID));
    this.#rising.clear();
    if (refusal !== undefined) {
      this.#refusal = refusal;
      this.#mayCreate = refusal.retryable && this.#secondTries-- > 0;
    }
    for (const eniID of made) await this.#forget(eniID);
  }

  /** An ENI that was filled, and does not show it, is not filled once more. */
  #checkFill(eni: Eni, asked: Rising | undefined): void {
    if (asked?.known === undefined || eni.secondaryAddresses.length >= asked.expected) return;
    this.#full.add(eni.eniID);
    const shown = `${eni.secondaryAddresses.length} addresses instead of ${asked.expected}`;
    this.#refusal = new UnavailableError(`${eni.eniID} shows ${shown}`, { outcome: "unknown" });
  }

  /** The same token would name the same vanished ENI for ever. */
  async #forget(eniID: string): Promise<never> {
    const { job } = this.#steps;
    for (const [key, step] of job.lastOf("CreateNetworkInterface")) {
      if (step.detail?.eniID === eniID) await job.failed("CreateNetworkInterface", key, { eniID });
    }
    throw new UnavailableError(`the new ENI ${eniID} is not to be seen`, {
      outcome: "none",
      hint: "run the command again",
    });
  }

  async #network(): Promise<NodeNetwork> {
    const network = networkOf([...this.#mine.values()], this.#subnet.subnetID);
    const { count, addresses: names } = this.#need();
    const missing = count + names.length;
    if (missing === 0) return network;
    const none = new ExhaustedError(`no ENI in ${this.#subnet.subnetID} takes more addresses`);
    const reason = await withUse(this.#steps, this.#refusal ?? none, this.#instance, this.#subnet);
    if (network.addresses.length === 0) throw reason;
    this.#steps.progress(`the pool is ${missing} addresses smaller than asked: ${reason.message}`);
    return { ...network, short: { addresses: missing, reason: reason.message } };
  }
}

/** Secondary addresses that an ENI can have before it is attached. */
const mostAtCreation = 49;

/** Where an ENI's creation is written down within the job. */
function creationKey(number: number): string {
  return `eni-${number}`;
}

/** An address by name that somebody was given since it was looked for. */
function takenSince(error: unknown, wanted: Wanted): unknown {
  const taken =
    error instanceof InvalidError && "addresses" in wanted && /InvalidPrivateIp/.test(error.message);
  return taken ? new ConflictError(error.message, { cause: error, hint: "ask for another address" }) : error;
}

function isOfSubnet(error: ExhaustedError): boolean {
  return hasCode(error, "InsufficientIpInSubnet");
}

function hasCode(error: CocoonError | undefined, vendorCode: string): boolean {
  return error instanceof QuotaError && error.vendorCode === vendorCode;
}
