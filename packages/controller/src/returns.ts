import { encode, keys, type MovedRecord, type Revision, type Store } from "@cocoon-net/core";
import type { NodeView } from "./detection.ts";
import { durableEvent } from "./durable-event.ts";
import { newBase, newIntentID } from "./intent.ts";
import type { MoveIntent } from "./move-intent.ts";
import type { TransitionContext } from "./node-transitions.ts";

/** One `moved/{ip}` as the leader sees it. */
export interface SeenMoved {
  readonly ip: string;
  readonly record: MovedRecord;
  readonly revision: Revision;
}

export interface StartedMove {
  readonly id: string;
  readonly intent: MoveIntent;
  readonly revision: Revision;
}

/** How many addresses one transaction asks about. */
const perLook = 100;

/**
 * Addresses that were moved and have no guest any more. A guest is only believed to be gone when two looks, a pause
 * apart, find no lease (G8); the record must not have changed in between.
 */
export class Returns {
  readonly #seen = new Map<string, Revision>();

  async look(store: Store, all: readonly SeenMoved[], signal: AbortSignal): Promise<SeenMoved[]> {
    const settled = all.filter(({ record }) => record.move === undefined);
    const empty: SeenMoved[] = [];
    for (let start = 0; start < settled.length; start += perLook) {
      const batch = settled.slice(start, start + perLook);
      const { reads } = await store.txn(
        { then: batch.map(({ ip }) => ({ get: keys.pool(ip) })) },
        { signal },
      );
      empty.push(...batch.filter((_, index) => reads[index] === undefined));
    }
    const twice = empty.filter(({ ip, revision }) => this.#seen.get(ip) === revision);
    this.#seen.clear();
    for (const { ip, revision } of empty) this.#seen.set(ip, revision);
    return twice;
  }
}

/** Sends an address home whose guest is gone; undefined when that has changed meanwhile. */
export async function startReturn(
  context: TransitionContext,
  { ip, record, revision }: SeenMoved,
  home: NodeView | undefined,
  platform: string,
): Promise<StartedMove | undefined> {
  const id = newIntentID("return", ip);
  const intent: MoveIntent = {
    kind: "move",
    purpose: "return",
    ip,
    mac: record.mac,
    ...(record.vmID === undefined ? {} : { vmID: record.vmID }),
    from: record.node,
    fromUID: record.uid,
    to: home?.node ?? "",
    toUID: home?.record.uid ?? "",
    platform,
    isFirst: false,
    step: "preparing",
    cloudSteps: [],
    undoSteps: [],
    ...newBase(context.clock.now().toISOString()),
  };
  const moving: MovedRecord = {
    ...record,
    move: { intent: id, from: intent.from, to: intent.to, toUID: intent.toUID, ready: [] },
  };
  const told = {
    type: "move-requested",
    reason: "guest-gone",
    message: `the guest of ${ip} at ${record.node} is gone; the address goes back to ${home?.node ?? "nobody"}`,
  } as const;
  const { event, put } = durableEvent(context.clock, revision, told, { ip, node: record.node, intent: id });
  const written = await context.writer.write(
    {
      if: [
        { key: keys.moved(ip), modRevision: revision },
        { key: keys.pool(ip), exists: false },
      ],
      then: [
        { put: keys.moved(ip), value: encode(moving) },
        { put: keys.intent(id), value: encode(intent) },
      ],
      witness: put,
    },
    context.signal,
  );
  if (written === undefined) return undefined;
  context.onEvent(event);
  return { id, intent, revision: written };
}
