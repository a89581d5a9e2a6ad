import { decode, type Entry, keys, type NodeRecord, nodeSchema, type Store } from "@cocoon-net/core";

/** The node's record, now and after every change of it. Ends when `signal` aborts. */
export async function* watchNode(
  store: Store,
  node: string,
  signal: AbortSignal,
): AsyncGenerator<NodeRecord, void> {
  const key = keys.node(node);
  for await (const batch of store.watch(key, { signal })) {
    const entries: readonly Entry[] =
      batch.type === "snapshot"
        ? batch.entries
        : batch.changes.flatMap((change) => (change.type === "put" ? [change.entry] : []));
    // Other nodes' names may begin with this one's.
    const entry = entries.findLast((one) => one.key === key);
    if (entry) yield decode(nodeSchema, entry);
  }
}
