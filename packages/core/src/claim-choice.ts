import { type Claimant, type ClaimResult, claimOf, type Situation, tryClaim, type Wanted } from "./claim.ts";
import { ConflictError } from "./errors.ts";
import { slotsToTry } from "./free-slots.ts";
import { type Cidr, formatCidr } from "./ipv4.ts";
import { prefixes } from "./keys.ts";
import { decode, slotSchema } from "./model.ts";
import { quarantinedBlock, seesOwnQuarantine } from "./quarantined-block.ts";
import type { CallOptions, Entry, Store } from "./store.ts";

export interface ClaimChoiceOptions extends CallOptions {
  readonly now: () => Date;
  /** The block to claim, where it is not to be chosen. */
  readonly subnet: Cidr | undefined;
  /** Whether the instance may have a block in quarantine. If not, it is asked for only where one is come across. */
  readonly returning: boolean;
  /** Told before each claim whether the block is free for everybody, or the instance's own. */
  readonly onClaim: (block: "free" | "own") => void;
}

/**
 * Claims a block for a node that owns none: the one that it had and that is in quarantine, else the one that it asks
 * for, else a free slot. @throws {ConflictError} when the block that it asks for is somebody's;
 * {@link ExhaustedError} when nothing is free.
 */
export async function claimSome(
  store: Store,
  claimant: Claimant,
  found: Situation,
  options: ClaimChoiceOptions,
): Promise<ClaimResult> {
  const { now, subnet, returning, onClaim, ...call } = options;
  const { cluster } = found;
  const claim = (wanted: Wanted) => tryClaim(store, claimant, wanted, found, now(), call);
  const claimBack = async (): Promise<ClaimResult | undefined> => {
    const own = await quarantinedBlock(store, claimant.uid, subnet, cluster, call);
    if (!own) return undefined;
    onClaim("own");
    const result = await claim({ claims: [own], ask: [] });
    return result.type === "taken" ? { type: "outdated" } : result;
  };
  if (returning || subnet) {
    const back = await claimBack();
    if (back) return back;
  }
  onClaim("free");
  if (subnet) {
    const wanted = claimOf(subnet, cluster);
    const result = await claim({ claims: [wanted], ask: wanted.slots });
    if (result.type !== "taken") return result;
    const holder = [...result.seen.values()].find((slot) => slot !== undefined);
    if (holder) throw ownerConflict(subnet, holder);
    return { type: "outdated" };
  }
  let askedBack = returning;
  const tries = slotsToTry(store, cluster, claimant.node, call);
  for (let next = await tries.next(); !next.done; ) {
    const { slots, ...how } = next.value;
    const result = await claim({ ...how, claims: slots.map((slot) => claimOf(slot, cluster)) });
    if (result.type !== "taken") return result;
    if (!askedBack && seesOwnQuarantine(claimant.uid, result.seen)) {
      askedBack = true;
      const back = await claimBack();
      if (back) return back;
      onClaim("free");
    }
    next = await tries.next(result);
  }
  return { type: "outdated" };
}

function ownerConflict(subnet: Cidr, holder: Entry): ConflictError {
  const { node } = decode(slotSchema, holder);
  const who = node === "" ? "is in quarantine" : `belongs to node ${node}`;
  return new ConflictError(
    `subnet ${formatCidr(subnet)} overlaps ${holder.key.slice(prefixes.slots.length)}, which ${who}`,
    { hint: "choose another --subnet, or leave it out to get a free one" },
  );
}
