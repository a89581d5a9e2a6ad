import {
  AuthError,
  type CocoonError,
  ConflictError,
  contains,
  ExhaustedError,
  InvalidError,
  type MoveRequest,
  type MoveResult,
  type NodeResources,
  NotFoundError,
  parseAddress,
  parseCidr,
  UnavailableError,
} from "@cocoon-net/core";
import { isRefusal } from "./api-errors.ts";
import { bringUp } from "./bring-up.ts";
import { emptyEni, fillEni } from "./eni-addresses.ts";
import { createEni } from "./eni-requests.ts";
import { deleteEmptied } from "./moved-enis.ts";
import { networkOf } from "./network.ts";
import { eniTags, movedEniName, useOf, whyNotOurs } from "./ownership.ts";
import { findInstance, listEnis, listSubnets } from "./reads.ts";
import { securityGroupsOf } from "./security-groups.ts";
import type { Steps } from "./steps.ts";
import type { Eni, Instance } from "./wire.ts";

/**
 * Moves a secondary address to an ENI of the same subnet on the other node. That ENI is there, InUse and with room,
 * before the address is taken away, so that the address is without a place for two requests only. Every look decides
 * anew what comes next, so that an interrupted move is finished by the next run, from wherever it stands.
 */
export async function move(steps: Steps, request: MoveRequest): Promise<MoveResult> {
  const { to, instance } = request;
  if (to.instanceID !== instance.instanceID) {
    throw new InvalidError(`${to.node} is ${to.instanceID ?? "on no instance"}, not ${instance.instanceID}`);
  }
  const subnetID = await homeSubnet(steps, request);
  return await new Move(steps, request, subnetID).run();
}

/** The VPC subnet that the address is of. */
async function homeSubnet({ api }: Steps, { address, from, to, instance }: MoveRequest): Promise<string> {
  const block = { base: parseAddress(address), prefix: 32 };
  const home = [from, to].find(({ subnet }) => contains(parseCidr(subnet), block));
  if (home?.subnetID !== undefined) return home.subnetID;
  const subnets = await listSubnets(api, { VpcId: instance.network });
  const found = subnets.find(({ cidr }) => contains(parseCidr(cidr), block));
  if (found !== undefined) return found.subnetID;
  throw new NotFoundError(`no subnet of ${instance.network} has the address ${address}`);
}

class Move {
  readonly #steps: Steps;
  readonly #request: MoveRequest;
  readonly #subnetID: string;

  constructor(steps: Steps, request: MoveRequest, subnetID: string) {
    this.#steps = steps;
    this.#request = request;
    this.#subnetID = subnetID;
  }

  async run(): Promise<MoveResult> {
    const { api } = this.#steps;
    const { address, from, to } = this.#request;
    const pauses = api.pauses(api.timing.changeMs);
    let reason: CocoonError | undefined;
    for (;;) {
      const enis = await this.#look();
      const holder = enis.find((eni) => eni.secondaryAddresses.includes(address));
      this.#refuseForeign(enis, holder);
      if (holder !== undefined && isOf(holder, to)) {
        if (holder.status === "InUse") return await this.#finish(enis, holder);
        await this.#bringUp(holder.eniID, holder);
        continue;
      }
      const target = await this.#readyTarget(enis).catch(async (error: unknown) => {
        // Taken away by an earlier try, and it has no place there.
        if (holder === undefined && isRefusal(error)) await this.#giveBack(enis, from);
        throw error;
      });
      if (holder !== undefined) {
        await emptyEni(this.#steps, holder.eniID, [address], { subnetID: this.#subnetID });
      }
      try {
        await this.#assign(target);
        // The read-back decides.
      } catch (error) {
        if (error instanceof ExhaustedError) {
          await this.#giveBack(enis, from);
          throw error;
        }
        // Not free yet, somebody else was given it, or the target's ENI has gone: another look tells.
        if (!isRefusal(error) || error instanceof AuthError) throw error;
        reason = error;
      }
      if (await pauses.next()) continue;
      const now = await this.#look();
      // Nobody has it: better the old place than none.
      if (!now.some((eni) => eni.secondaryAddresses.includes(address))) await this.#giveBack(now, from);
      throw (
        reason ??
        new UnavailableError(`the cloud does not show ${address} on ${to.node}`, {
          outcome: "unknown",
          hint: "run it again",
        })
      );
    }
  }

  async #look(): Promise<Eni[]> {
    return await listEnis(this.#steps.api, { SubnetId: this.#subnetID });
  }

  #refuseForeign(enis: readonly Eni[], holder: Eni | undefined): void {
    const { address, from, to } = this.#request;
    const primary = enis.find((eni) => eni.primaryAddress === address);
    if (primary !== undefined) {
      throw new ConflictError(`${address} is the primary address of ${primary.eniID} and cannot be moved`);
    }
    if (holder === undefined || isOf(holder, from) || isOf(holder, to)) return;
    const where = holder.instanceID === undefined ? "attached to nothing" : `on ${holder.instanceID}`;
    throw new ConflictError(
      `${address} is neither ${from.node}'s nor ${to.node}'s: ${holder.eniID} has it, ${where}`,
    );
  }

  /** An ENI of the subnet that is InUse on the target and takes one more address. */
  async #readyTarget(enis: readonly Eni[]): Promise<Eni> {
    const { api, limits: book, progress } = this.#steps;
    const { to, instance: identity } = this.#request;
    const instance = await findInstance(api, identity.instanceID);
    if (instance === undefined) throw new NotFoundError(`there is no instance ${identity.instanceID}`);
    const limits = await book.of(api, instance.type, progress);
    const theirs = enis.filter((eni) => isOf(eni, to) && useOf(eni) !== "warm" && eni.status !== "Deleting");
    const roomy = theirs.filter((eni) => eni.secondaryAddresses.length < limits.secondariesPerEni);
    const ready = roomy.find((eni) => eni.status === "InUse");
    if (ready !== undefined) return ready;
    const [coming] = roomy;
    if (coming !== undefined) return await this.#bringUp(coming.eniID, coming);
    const nics = instance.nics ?? (await listEnis(api, { InstanceId: instance.instanceID }));
    if (nics.length >= limits.enis) {
      throw new ExhaustedError(
        `${to.node} has no room for ${this.#request.address}: ${instance.instanceID} has ${nics.length} of ${limits.enis} ENIs, and none of ${this.#subnetID} takes another address`,
        { hint: "move it to another node, or detach an ENI that is not needed" },
      );
    }
    return await this.#bringUp(await this.#create(instance), undefined);
  }

  async #create(instance: Instance): Promise<string> {
    const { api, job } = this.#steps;
    const { to, tags, instance: identity } = this.#request;
    const owner = { node: to.node, instance: identity, tags };
    return await createEni(this.#steps, {
      key: creationKey,
      name: movedEniName(to.node),
      vpcID: instance.vpcID,
      subnetID: this.#subnetID,
      securityGroupIDs: await securityGroupsOf(api, instance),
      wanted: { count: 0 },
      tags: eniTags(owner, job.id, this.#subnetID === to.subnetID ? "pool" : "moved"),
    });
  }

  async #bringUp(eniID: string, known: Eni | undefined): Promise<Eni> {
    const { job } = this.#steps;
    const { instanceID } = this.#request.instance;
    const { enis, refusal } = await bringUp(this.#steps, instanceID, [{ eniID, known, expected: 0 }]);
    const [eni] = enis;
    if (eni !== undefined) return eni;
    if (refusal !== undefined) throw refusal;
    // The same token would name the same vanished ENI for ever.
    await job.failed("CreateNetworkInterface", creationKey, { eniID });
    throw new UnavailableError(`the ENI ${eniID} is not to be seen`, {
      outcome: "none",
      hint: "run it again",
    });
  }

  /** Undoes what was done to the source. */
  async #giveBack(enis: readonly Eni[], from: NodeResources): Promise<void> {
    const { address } = this.#request;
    const theirs = enis.filter((eni) => isOf(eni, from));
    const [roomiest] = theirs.sort((a, b) => a.secondaryAddresses.length - b.secondaryAddresses.length);
    const source = theirs.find((eni) => eni.secondaryAddresses.includes(address)) ?? roomiest;
    if (source === undefined) return;
    this.#steps.progress(`giving ${address} back to ${from.node}`);
    await this.#assign(source);
  }

  async #assign({ eniID, secondaryAddresses: { length } }: Eni): Promise<void> {
    const { address, instance } = this.#request;
    await fillEni(this.#steps, eniID, instance.network, length, { addresses: [address] });
  }

  async #finish(enis: readonly Eni[], holder: Eni): Promise<MoveResult> {
    const { api } = this.#steps;
    const { address, from, to } = this.#request;
    const { instanceID } = this.#request.instance;
    const others = enis.filter((eni) => eni !== holder && eni.secondaryAddresses.includes(address));
    await deleteEmptied(
      this.#steps,
      enis.filter((eni) => isLeft(eni, from)),
    );
    const attached = await listEnis(api, { InstanceId: instanceID });
    const has = attached.find(({ eniID }) => eniID === holder.eniID)?.secondaryAddresses.includes(address);
    const what = `${holder.eniID} (${this.#subnetID}) is InUse on ${instanceID} with ${address}`;
    const rivals = others.map((eni) => `${eni.eniID} has it too`);
    return {
      verified: has === true && others.length === 0,
      evidence: [has ? what : `${holder.eniID} has lost ${address} again`, ...rivals].join("; "),
      network: networkOf(
        attached.filter((eni) => whyNotOurs(eni, to) === undefined),
        to.subnetID,
      ),
    };
  }
}

const creationKey = "eni-moved";

/** Made for the node, and attached to it or to nothing. */
function isOf(eni: Eni, node: NodeResources): boolean {
  const elsewhere = eni.instanceID !== undefined && eni.instanceID !== node.instanceID;
  return !elsewhere && whyNotOurs(eni, { ...node, subnetID: "" }) === undefined;
}

function isLeft(eni: Eni, node: NodeResources): boolean {
  return useOf(eni) === "moved" && eni.secondaryAddresses.length === 0 && isOf(eni, node);
}
