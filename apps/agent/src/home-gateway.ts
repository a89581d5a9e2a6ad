import {
  decode,
  formatAddress,
  hostRange,
  keys,
  type MovedRecord,
  nodeSchema,
  parseCidr,
  type Store,
} from "@cocoon-net/core";

/** The router of the subnet that a moved address is of: what its home node says, or the one that nodes have by default. */
export async function homeGateway(
  store: Store,
  { home, subnet }: MovedRecord,
  signal: AbortSignal,
): Promise<string> {
  const { entry } = await store.get(keys.node(home), { signal });
  const record = entry && decode(nodeSchema, entry);
  const byDefault = formatAddress(hostRange(parseCidr(subnet)).first);
  return record?.subnet === subnet ? (record.gateway ?? byDefault) : byDefault;
}
