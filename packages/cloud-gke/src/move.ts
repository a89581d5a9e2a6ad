import {
  AddressSet,
  AuthError,
  CocoonError,
  ConflictError,
  describeError,
  type MoveRequest,
  type MoveResult,
  parseCidr,
  ThrottledError,
  UnavailableError,
} from "@cocoon-net/core";
import { changeAliases, firstNic } from "./alias-change.ts";
import { countAfter } from "./alias-plan.ts";
import type { Steps } from "./change.ts";
import { formatInstanceRef } from "./instance-ref.ts";
import { holdersIn, type MovePlan, planOf, type Side } from "./move-plan.ts";
import { deliveredOf, networkOf } from "./node-addresses.ts";
import { instanceRefOf, missing } from "./provision.ts";
import type { Instance } from "./wire.ts";

/**
 * Moves one address between two instances: off the one, then onto the other. The node that the address is at home on has
 * its block but for what other nodes serve, in as few aliases as there can be, so the last address that comes back
 * makes it whole again; elsewhere the address is an alias of its own. What is refused on the way is undone.
 *
 * A range cannot be cut while it is bound: what changes of the home node's block is off for the time of two requests.
 */
export async function move(steps: Steps, request: MoveRequest): Promise<MoveResult> {
  const plan = await planOf(steps, request);
  const { from, to } = plan;
  const obstacle = obstacleTo(steps, request, plan);
  if (obstacle !== undefined || to === undefined) {
    // An earlier run may have been stopped half-way.
    if (lacks(from) || lacks(to)) await giveBack(steps, plan, obstacle);
    throw obstacle;
  }
  let moved: Instance | undefined;
  try {
    if (from !== undefined) await changeAliases(steps, from.ref, () => from.after, from.instance);
    moved = await changeAliases(steps, to.ref, () => to.after, to.instance);
    if (moved === undefined) throw missing(to.ref);
  } catch (error) {
    if (!isFinal(error)) throw error;
    await giveBack(steps, plan, error);
    throw error;
  }
  return await verified(steps, request, plan, moved);
}

/** What can be told before anything is changed. */
function obstacleTo({ limit }: Steps, request: MoveRequest, plan: MovePlan): CocoonError | undefined {
  const { from, to, taken } = plan;
  if (to === undefined) return missing(instanceRefOf(request.instance.instanceID));
  if (taken !== undefined) {
    const message = `${request.address} is with neither ${request.from.node} nor ${request.to.node}`;
    return new ConflictError(`${message}: ${taken.evidence}`, { hint: "move it from there" });
  }
  for (const side of [from, to]) {
    if (side === undefined) continue;
    const { aliases } = firstNic(side.instance);
    const tooMany = limit.excess(side.ref.name, aliases.length, countAfter(aliases, side.after));
    if (tooMany !== undefined) return tooMany;
  }
  return undefined;
}

/** Whether something that the node shall have before the move is not there. */
function lacks(side: Side | undefined): boolean {
  if (side === undefined) return false;
  const { aliases } = firstNic(side.instance);
  const blocks = side.before.add.map(({ cidr }) => parseCidr(cidr));
  return blocks.some((block) => !deliveredOf(aliases, block).has(block));
}

/** Whether asking again will not help, but leaving it as it was may. */
function isFinal(error: unknown): error is CocoonError {
  const mayPass =
    error instanceof UnavailableError || error instanceof ThrottledError || error instanceof AuthError;
  return error instanceof CocoonError && !mayPass;
}

/** @throws {UnavailableError} when that fails too; the job has to be run again then */
async function giveBack(steps: Steps, { from, to }: MovePlan, reason: unknown): Promise<void> {
  steps.progress(`undoing the move: ${describeError(reason)}`);
  try {
    if (to !== undefined) await changeAliases(steps, to.ref, () => to.before);
    if (from !== undefined) await changeAliases(steps, from.ref, () => from.before);
  } catch (error) {
    if (!isFinal(error)) throw error;
    throw new UnavailableError(`${describeError(reason)}; undoing the move failed: ${describeError(error)}`, {
      cause: error,
      outcome: "unknown",
      hint: "run it again",
    });
  }
}

async function verified(
  { api }: Steps,
  request: MoveRequest,
  { single, subnetwork, projects }: MovePlan,
  target: Instance,
): Promise<MoveResult> {
  const holders = await holdersIn(api, projects, subnetwork, new AddressSet([single]));
  const others = holders.filter(({ instance }) => instance.id !== target.id);
  const isListed = others.length < holders.length;
  const who = formatInstanceRef(instanceRefOf(request.instance.instanceID));
  const shown =
    holders.map(({ evidence }) => evidence).join("; ") || `nobody is shown to have ${request.address}`;
  const movedIn = [...(request.to.movedIn ?? []), request.address];
  return {
    verified: isListed && others.length === 0,
    evidence: isListed ? shown : `${shown}; ${who} is not`,
    network: networkOf(target, { ...request.to, movedIn }),
  };
}
