import { type CloudLimits, CocoonError, NotFoundError, UnavailableError } from "@cocoon-net/core";
import type { Requests } from "./api.ts";
import { findInstance, instanceTypeLimits } from "./reads.ts";

export interface TypeLimits {
  /** ENIs of an instance, the primary one included. */
  readonly enis: number;
  /** Secondary addresses of an attached ENI. */
  readonly secondariesPerEni: number;
  /** Whether `secondariesPerEni` has been found to be all there is. */
  readonly sure: boolean;
}

/** Seen on bare-metal types, used when the API does not say: 1 + 7 ENIs, 20 secondary addresses each. */
const fallback: TypeLimits = { enis: 8, secondariesPerEni: 20, sure: true };

/** What instance types allow, asked once for each type. */
export class LimitsBook {
  readonly #types = new Map<string, TypeLimits>();

  async of(api: Requests, type: string, progress: (message: string) => void): Promise<TypeLimits> {
    const known = this.#types.get(type);
    if (known !== undefined) return known;
    const found = await this.#ask(api, type, progress);
    if (found !== undefined) {
      this.#types.set(type, found);
      return found;
    }
    const { enis, secondariesPerEni } = fallback;
    progress(`assuming ${enis} ENIs with ${secondariesPerEni} secondary addresses`);
    return fallback;
  }

  /**
   * The vendor does not say whether a type's number of addresses counts the primary one. We take it that it does, and
   * correct that once an ENI is found to take one more, or not.
   */
  learn(type: string, limits: TypeLimits): TypeLimits {
    this.#types.set(type, { ...limits, sure: true });
    return { ...limits, sure: true };
  }

  async #ask(
    api: Requests,
    type: string,
    progress: (message: string) => void,
  ): Promise<TypeLimits | undefined> {
    try {
      const found = await instanceTypeLimits(api, type);
      if (found?.enis !== undefined && found.addressesPerEni !== undefined) {
        return { enis: found.enis, secondariesPerEni: found.addressesPerEni - 1, sure: false };
      }
      progress(`the limits of ${type} are not known`);
    } catch (error) {
      // A key without this permission can still provision.
      if (!(error instanceof CocoonError) || error instanceof UnavailableError) throw error;
      progress(`the limits of ${type} are not known: ${error.message}`);
    }
    return undefined;
  }
}

export async function describeLimits(
  api: Requests,
  book: LimitsBook,
  instanceID: string,
  progress: (message: string) => void,
): Promise<CloudLimits> {
  const instance = await findInstance(api, instanceID);
  if (instance === undefined) {
    throw new NotFoundError(`the account of this access key has no instance ${instanceID}`, {
      hint: "use an access key of the account that owns this node",
    });
  }
  const { enis, secondariesPerEni } = await book.of(api, instance.type, progress);
  return {
    assigns: "addresses",
    nicsPerNode: enis - 1,
    addressesPerNIC: secondariesPerEni,
    aliasRangesPerNIC: undefined,
    smallestBlock: 32,
  };
}
