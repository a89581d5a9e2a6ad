import type { Slot } from "./address-table.ts";

/** Binary min-heap of slots by `until`. Each slot knows its place, so a renewal moves it in O(log n). */
export class SlotHeap {
  readonly #slots: Slot[] = [];

  get first(): Slot | undefined {
    return this.#slots[0];
  }

  /** Adds the slot, or moves it after its `until` changed. */
  place(slot: Slot): void {
    if (slot.heapIndex < 0) {
      slot.heapIndex = this.#slots.length;
      this.#slots.push(slot);
    }
    this.#rise(slot);
    this.#sink(slot);
  }

  remove(slot: Slot): void {
    const index = slot.heapIndex;
    if (index < 0) return;
    slot.heapIndex = -1;
    const last = this.#slots.pop();
    if (last === undefined || last === slot) return;
    this.#put(last, index);
    this.#rise(last);
    this.#sink(last);
  }

  #rise(slot: Slot): void {
    while (slot.heapIndex > 0) {
      const parent = this.#slots[(slot.heapIndex - 1) >> 1];
      if (parent === undefined || parent.until <= slot.until) return;
      this.#swap(slot, parent);
    }
  }

  #sink(slot: Slot): void {
    for (;;) {
      const left = this.#slots[2 * slot.heapIndex + 1];
      const right = this.#slots[2 * slot.heapIndex + 2];
      const child = right !== undefined && left !== undefined && right.until < left.until ? right : left;
      if (child === undefined || child.until >= slot.until) return;
      this.#swap(slot, child);
    }
  }

  #swap(one: Slot, other: Slot): void {
    const index = one.heapIndex;
    this.#put(one, other.heapIndex);
    this.#put(other, index);
  }

  #put(slot: Slot, index: number): void {
    this.#slots[index] = slot;
    slot.heapIndex = index;
  }
}
