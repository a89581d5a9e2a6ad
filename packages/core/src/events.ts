import { randomUUID } from "node:crypto";
import { keys } from "./keys.ts";
import { type EventRecord, encode } from "./model.ts";
import type { Operation, Revision } from "./store.ts";

/**
 * The write that adds an event to the audit log. It belongs into the transaction it reports, so that neither
 * stands without the other. `after` is a revision the writer has seen: ids sort by it.
 */
export function eventOperation(
  after: Revision,
  event: EventRecord,
): Extract<Operation, { readonly put: string }> {
  const id = `${String(after).padStart(16, "0")}-${randomUUID().slice(0, 8)}`;
  return { put: keys.event(id), value: encode(event) };
}
