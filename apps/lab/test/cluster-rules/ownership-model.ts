import { blockOf, type Cidr, contains, formatCidr, overlaps, parseCidr, split } from "@cocoon-net/core";
import fc from "fast-check";

/** A parent of 16 slots, so that random blocks meet often. */
export const parent: Cidr = parseCidr("10.64.0.0/20");
export const nodePrefix = 24;
export const reserved: readonly Cidr[] = [parseCidr("10.64.3.0/25"), parseCidr("10.64.8.0/23")];

export type Step =
  | {
      readonly do: "register";
      readonly node: string;
      readonly uid: string;
      readonly subnet: Cidr | undefined;
    }
  | { readonly do: "leave" | "reclaim"; readonly node: string }
  /** The quarantine of that index, modulo their number, ends. */
  | { readonly do: "free"; readonly index: number };

const node = fc.constantFrom("a", "b", "c", "d", "e", "f");
const block = fc
  .tuple(fc.integer({ min: -256, max: 4351 }), fc.integer({ min: 22, max: 26 }))
  .map(([offset, prefix]) => blockOf(parent.base + offset, prefix));

export const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("register" as const),
        node,
        uid: fc.constantFrom("x", "x", "x", "y"),
        subnet: fc.option(block, { nil: undefined }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("leave" as const, "reclaim" as const), node }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("free" as const), index: fc.nat({ max: 9 }) }) },
  ),
  { minLength: 5, maxLength: 40 },
);

interface Owned {
  readonly uid: string;
  readonly subnet: Cidr;
}

/** Who owns what, said as plainly as possible: lists, and a look at every slot. */
export class OwnershipModel {
  readonly owned = new Map<string, Owned>();
  readonly quarantined: Owned[] = [];

  /** The subnet that the registration must get, or the code of its error. */
  register(name: string, uid: string, subnet: Cidr | undefined): string {
    const had = this.owned.get(name);
    if (had) {
      const same = had.uid === uid && (!subnet || formatCidr(subnet) === formatCidr(had.subnet));
      return same ? formatCidr(had.subnet) : "conflict";
    }
    if (subnet && (!contains(parent, subnet) || reserved.some((r) => overlaps(r, slotAround(subnet))))) {
      return "invalid";
    }
    // In the order in which a store lists them.
    const own = this.quarantined
      .filter((q) => q.uid === uid && (!subnet || formatCidr(subnet) === formatCidr(q.subnet)))
      .sort((a, b) => (formatCidr(a.subnet) < formatCidr(b.subnet) ? -1 : 1))[0];
    if (own) {
      this.quarantined.splice(this.quarantined.indexOf(own), 1);
      this.owned.set(name, own);
      return formatCidr(own.subnet);
    }
    const taken = [...this.owned.values(), ...this.quarantined].map((entry) => slotAround(entry.subnet));
    const isFree = (candidate: Cidr) =>
      ![...taken, ...reserved].some((other) => overlaps(other, slotAround(candidate)));
    const got = subnet ?? [...split(parent, nodePrefix)].find(isFree);
    if (!got) return "exhausted";
    if (!isFree(got)) return "conflict";
    this.owned.set(name, { uid, subnet: got });
    return formatCidr(got);
  }

  leave(name: string): void {
    this.owned.delete(name);
  }

  reclaim(name: string): void {
    const had = this.owned.get(name);
    if (had) this.quarantined.push(had);
    this.owned.delete(name);
  }

  /** The block whose quarantine ends. */
  free(index: number): string | undefined {
    const [ended] = this.quarantined.splice(index % Math.max(this.quarantined.length, 1), 1);
    return ended && formatCidr(ended.subnet);
  }

  /** `slots/…` as they must be: name of the slot, and the owner's name, empty in quarantine. */
  slots(): Record<string, string> {
    const all = [...split(parent, nodePrefix)].flatMap((slot) => {
      const owner = [...this.owned].find(([, { subnet }]) => overlaps(subnet, slot));
      if (owner) return [[formatCidr(slot), owner[0]]];
      return this.quarantined.some(({ subnet }) => overlaps(subnet, slot)) ? [[formatCidr(slot), ""]] : [];
    });
    return Object.fromEntries(all);
  }
}

function slotAround(subnet: Cidr): Cidr {
  return subnet.prefix < nodePrefix ? subnet : blockOf(subnet.base, nodePrefix);
}
