export const slotStates = ["owned", "quarantine"] as const;
export type SlotState = (typeof slotStates)[number];
