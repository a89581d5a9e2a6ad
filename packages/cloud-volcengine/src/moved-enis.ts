import { deleteEni } from "./eni-changes.ts";
import { detachAll } from "./fence.ts";
import { waitForEnis } from "./reads.ts";
import type { Steps } from "./steps.ts";
import type { Eni } from "./wire.ts";

/** Deletes ENIs that were made for moves, after their last address has moved on. What cannot be detached stays. */
export async function deleteEmptied(steps: Steps, enis: readonly Eni[]): Promise<void> {
  const { api, progress } = steps;
  for (const eni of enis) {
    const detaching = api.changes("detach");
    const trouble = (await detachAll(steps, [eni], detaching)).get(eni.eniID);
    if (trouble !== undefined) {
      progress(`leaving ${eni.eniID}: ${trouble}`);
      continue;
    }
    const detached = (now: Eni | undefined) => now?.instanceID === undefined;
    const free = (await waitForEnis(api, [eni.eniID], detached, detaching)).get(eni.eniID);
    if (free !== undefined) await deleteEni(steps, free);
  }
}
