import { refuse } from "./api-fault.ts";
import type { RequestParameters, TagFilter } from "./request-parameters.ts";
import type { Tags } from "./state.ts";

interface Page<T> {
  readonly items: T[];
  readonly fields: Record<string, unknown>;
}

export type Pager = <T>(all: readonly T[], idOf: (item: T) => string) => Page<T>;

/**
 * The two ways to page (facts §2.5): NextToken/MaxResults (10 by default, 1–100, an empty NextToken ends it)
 * and PageNumber/PageSize (1 and 20 by default, at most 100, gives TotalCount). Mixing them is refused.
 */
export function readPaging(params: RequestParameters, modes: { pageNumber: boolean }): Pager {
  const token = params.optional("NextToken");
  const maxResults = params.integer("MaxResults", 1, 100);
  const pageNumber = modes.pageNumber ? params.integer("PageNumber", 1, 1_000_000) : undefined;
  const pageSize = modes.pageNumber ? params.integer("PageSize", 1, 100) : undefined;
  const byToken = token !== undefined || maxResults !== undefined;
  const byNumber = pageNumber !== undefined || pageSize !== undefined;
  if (byToken && byNumber)
    throw refuse("InvalidParameter", "NextToken paging and PageNumber paging are mixed.");

  if (byToken || !modes.pageNumber) {
    return (all, idOf) => {
      // The token names the last item given out, so that changes between pages skip and repeat nothing.
      const after = token === undefined ? "" : Buffer.from(token, "base64url").toString();
      const rest = all.filter((item) => idOf(item) > after).sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
      const items = rest.slice(0, maxResults ?? 10);
      const last = items.at(-1);
      const more = last !== undefined && rest.length > items.length;
      return { items, fields: { NextToken: more ? Buffer.from(idOf(last)).toString("base64url") : "" } };
    };
  }
  const number = pageNumber ?? 1;
  const size = pageSize ?? 20;
  return (all) => ({
    items: all.slice((number - 1) * size, number * size),
    fields: { PageNumber: number, PageSize: size, TotalCount: all.length },
  });
}

/** A tag filter searches only the first 1,000 tagged resources (facts §2.5). */
const taggedResourcesSearched = 1000;

export function filterByTags<T extends { readonly tags: Tags }>(
  all: readonly T[],
  filters: readonly TagFilter[],
  searched: number = taggedResourcesSearched,
): T[] {
  if (filters.length === 0) return [...all];
  return all
    .filter((item) => Object.keys(item.tags).length > 0)
    .slice(0, searched)
    .filter((item) =>
      filters.every(({ key, values }) => {
        const value = item.tags[key];
        return value !== undefined && (values.length === 0 || values.includes(value));
      }),
    );
}
