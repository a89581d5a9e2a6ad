import { keys } from "./keys.ts";
import * as z from "./record-schema.ts";
import type { Compare } from "./store.ts";

/** `pause`: while it exists, nothing is freed: no fence begins or goes on, no quarantine ends, nothing is deleted. */
export interface PauseRecord {
  readonly reason: string;
  readonly since: string;
}

export const pauseSchema: z.RecordSchema<PauseRecord> = z.looseObject({
  reason: z.string(),
  since: z.string(),
});

/** Belongs into every transaction that frees something, or that a request to the cloud which does waits for. */
export const notPaused: Compare = { key: keys.pause, exists: false };
