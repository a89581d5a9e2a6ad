import { contains, parseAddress, parseCidr } from "@cocoon-net/core";
import { entriesOf, type HistoryEntry } from "./history.ts";
import { type Change, KnownStates } from "./known-states.ts";

interface Served {
  readonly node: string;
  readonly settled: boolean;
}

/** Who serves which address, by the word of the store: whoever has it by a move, else the owner of its block. */
export class Serving {
  readonly #moved: ReadonlyMap<string, KnownStates<Served>>;
  readonly #blocks: ReadonlyMap<string, KnownStates<string>>;
  readonly #places: ReadonlyMap<string, KnownStates<string>>;

  constructor(history: readonly HistoryEntry[]) {
    this.#moved = statesBy(entriesOf(history, "moved"), ({ ip, served }) => [ip, served]);
    this.#blocks = statesBy(entriesOf(history, "owner"), ({ node, subnet }) => [node, subnet]);
    const seen = [...entriesOf(history, "placed"), ...entriesOf(history, "lease")];
    this.#places = statesBy(
      seen.toSorted((a, b) => a.at - b.at),
      ({ guest, node }) => [guest, node],
    );
  }

  hasMoved(ip: string): boolean {
    return this.#moved.has(ip);
  }

  /** The node that the guest was on all that time; undefined when it was on more than one. */
  placeOf(guest: string, from: number, until: number): string | undefined {
    return only(this.#places.get(guest)?.possible(from, until) ?? []);
  }

  /** The node that had to serve the address all that time; undefined when that is not sure, or nobody had to. */
  of(ip: string, from: number, until: number): string | undefined {
    const states = this.#moved.get(ip)?.possible(from, until) ?? [undefined];
    const nodes = states.flatMap((state) => {
      if (state === undefined) return this.#owners(ip, from, until);
      return [state.settled ? state.node : undefined];
    });
    return only(nodes);
  }

  /** Whether that node may have served the address at some moment of that time. */
  mayHave(node: string, ip: string, from: number, until: number): boolean {
    const states = this.#moved.get(ip)?.possible(from, until) ?? [undefined];
    return states.some((state) =>
      state === undefined ? this.#owners(ip, from, until).includes(node) : state.node === node,
    );
  }

  #owners(ip: string, from: number, until: number): (string | undefined)[] {
    const address = parseAddress(ip);
    const owners = [...this.#blocks].flatMap(([node, blocks]) => {
      const possible = blocks.possible(from, until);
      const own = possible.filter((block) => block !== undefined && contains(parseCidr(block), address));
      // It owned the block for a part of that time only.
      return own.length === 0 ? [] : own.length < possible.length ? [node, undefined] : [node];
    });
    return owners.length === 0 ? [undefined] : owners;
  }
}

function only<T>(values: readonly T[]): T | undefined {
  const different = new Set(values);
  return different.size === 1 ? values[0] : undefined;
}

interface At {
  readonly at: number;
  readonly notBefore?: number | undefined;
  readonly revision?: number;
}

function statesBy<E extends At, T>(
  entries: readonly E[],
  read: (entry: E) => readonly [of: string, value: T | undefined],
): Map<string, KnownStates<T>> {
  const changes = new Map<string, Change<T>[]>();
  for (const entry of entries.toSorted((a, b) => (a.revision ?? a.at) - (b.revision ?? b.at))) {
    const [of, value] = read(entry);
    const change = { at: entry.at, notBefore: entry.notBefore ?? entry.at, value };
    changes.set(of, [...(changes.get(of) ?? []), change]);
  }
  return new Map([...changes].map(([of, list]) => [of, new KnownStates(list)]));
}
