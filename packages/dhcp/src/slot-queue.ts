import type { Slot } from "./address-table.ts";

/** First in, first out, with removal from the middle in O(1): a list threaded through the slots. */
export class SlotQueue {
  #first: Slot | undefined;
  #last: Slot | undefined;

  get first(): Slot | undefined {
    return this.#first;
  }

  push(slot: Slot): void {
    slot.queue = this;
    slot.before = this.#last;
    slot.after = undefined;
    if (this.#last === undefined) this.#first = slot;
    else this.#last.after = slot;
    this.#last = slot;
  }

  remove(slot: Slot): void {
    if (slot.before === undefined) this.#first = slot.after;
    else slot.before.after = slot.after;
    if (slot.after === undefined) this.#last = slot.before;
    else slot.after.before = slot.before;
    slot.queue = undefined;
    slot.before = undefined;
    slot.after = undefined;
  }
}
