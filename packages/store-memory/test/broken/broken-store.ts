import type { Store } from "@cocoon-net/core";
import type { CheckGroup } from "@cocoon-net/store-testkit";

/** What to replace in a store; `whole` sees the same database without a prefix. */
export type Breaks = (
  store: Store,
  place: { readonly prefix: string; readonly whole: Store },
) => Partial<Store>;

/** Stores that are wrong in one way each, by what is wrong. */
export type BrokenStores = Readonly<Record<string, { readonly group: CheckGroup; readonly breaks: Breaks }>>;
