import { InvalidError } from "@cocoon-net/core";

/** How a node's pool follows demand. Counts of addresses. */
export interface PoolPolicy {
  /** At least so many in all. */
  readonly min: number;
  /** So many free ones are kept ready. */
  readonly target: number;
  /** At most so many in all. */
  readonly max: number;
  /** How long a surplus must last before it is given back, milliseconds. */
  readonly releaseAfterMs: number;
}

export interface PoolState {
  readonly size: number;
  /** What a new guest could have now. Cooling, declined and reserved addresses are not. */
  readonly free: number;
  /** Guests that have asked in vain. */
  readonly waiting: number;
}

/** @throws {InvalidError} */
export function checkPolicy(policy: PoolPolicy): PoolPolicy {
  const { min, target, max } = policy;
  if (max < 1 || min > max || target > max) {
    throw new InvalidError(`a pool of at least ${min}, at most ${max}, ${target} of them free cannot be`, {
      hint: "neither --pool-min nor --pool-target may exceed --pool-max",
    });
  }
  return policy;
}

/** What a node starts with. */
export function firstSize({ min, target, max }: PoolPolicy): number {
  return Math.min(Math.max(min, target, 1), max);
}

/** The size that the pool should have: what is used or asked for, and `target` more. */
export function wantedSize({ size, free, waiting }: PoolState, { min, target, max }: PoolPolicy): number {
  return Math.min(Math.max(size - free + waiting + target, min), max);
}

/**
 * Whether to grow or shrink now. Half of `target` may be used up before the pool grows, and half as much again be free
 * before it shrinks, so that requests to the cloud come in batches.
 */
export function nextStep(state: PoolState, policy: PoolPolicy): "grow" | "shrink" | undefined {
  const wanted = wantedSize(state, policy);
  const { size, free, waiting } = state;
  const slack = Math.ceil(policy.target / 2);
  if (wanted > size && (free - waiting < slack || size < policy.min)) return "grow";
  if (wanted < size && (free > policy.target + slack || size > policy.max)) return "shrink";
  return undefined;
}

/** The demand that the policy does not allow to meet. */
export function unmet({ size, free, waiting }: PoolState, { max }: PoolPolicy): number {
  return Math.max(0, size - free + waiting - max);
}
