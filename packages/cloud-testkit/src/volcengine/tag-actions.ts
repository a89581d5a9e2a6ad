import type { VolcengineAccount } from "./account.ts";
import { refuse } from "./api-fault.ts";
import { findEni, requireWritableVpc } from "./lookup.ts";
import { filterByTags, readPaging } from "./paging.ts";
import type { RequestParameters } from "./request-parameters.ts";
import type { SimulatedEni, Tags } from "./state.ts";

type Result = Record<string, unknown>;

/** Facts §2.11: TagResources and its siblings know ENIs as `eni`; other types are not simulated. */
function readEnis(account: VolcengineAccount, params: RequestParameters): SimulatedEni[] {
  const type = params.required("ResourceType");
  if (type !== "eni") throw refuse("InvalidParameter", `ResourceType ${type} is not simulated.`);
  return params.list("ResourceIds").map((id) => findEni(account, id));
}

function change(account: VolcengineAccount, enis: readonly SimulatedEni[], to: (tags: Tags) => Tags): Result {
  for (const eni of enis) requireWritableVpc(account, eni.vpcID);
  const most = account.limits.tagsPerResource;
  const changed = enis.map((eni) => ({ ...eni, tags: to(eni.tags) }));
  // The code is not in the facts; that there is a limit is (§3.2).
  const over = changed.find((eni) => Object.keys(eni.tags).length > most);
  if (over) throw refuse("QuotaExceeded.Tag", `${over.eniID} would have more than ${most} tags.`);
  for (const eni of changed) account.putEni(eni.eniID, eni);
  return {};
}

/** Adds tags, and changes the values of those that are there. */
export function tagResources(account: VolcengineAccount, params: RequestParameters): Result {
  const enis = readEnis(account, params);
  const tags = params.tags(account.limits.tagsPerResource);
  params.refuseOthers();
  if (enis.length === 0) throw refuse("MissingParameter", "ResourceIds.1 is missing.");
  if (Object.keys(tags).length === 0) throw refuse("MissingParameter", "Tags.1.Key is missing.");
  return change(account, enis, (before) => ({ ...before, ...tags }));
}

export function untagResources(account: VolcengineAccount, params: RequestParameters): Result {
  const enis = readEnis(account, params);
  const keys = params.list("TagKeys");
  params.refuseOthers();
  if (enis.length === 0) throw refuse("MissingParameter", "ResourceIds.1 is missing.");
  if (keys.length === 0) throw refuse("MissingParameter", "TagKeys.1 is missing.");
  return change(account, enis, (before) =>
    Object.fromEntries(Object.entries(before).filter(([key]) => !keys.includes(key))),
  );
}

/** One item for each tag of each resource. Finds more than the first 1,000 tagged resources (facts §2.5). */
export function listTagsForResources(account: VolcengineAccount, params: RequestParameters): Result {
  const named = readEnis(account, params);
  const filters = params.tagFilters();
  const page = readPaging(params, { pageNumber: false });
  params.refuseOthers();
  const enis = named.length > 0 ? named : [...account.enis.values()];
  const tags = filterByTags(enis, filters, Number.POSITIVE_INFINITY).flatMap((eni) =>
    Object.entries(eni.tags).map(([key, value]) => ({ id: eni.eniID, key, value })),
  );
  const { items, fields } = page(tags, ({ id, key }) => `${id} ${key}`);
  return {
    ResourceTags: items.map(({ id, key, value }) => ({
      ResourceType: "eni",
      ResourceId: id,
      TagKey: key,
      TagValue: value,
    })),
    ...fields,
  };
}
