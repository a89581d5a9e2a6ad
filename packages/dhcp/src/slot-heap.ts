import type { Slot } from "./address-table.ts";

/**
 * Binary min-heap of slots by `until`. A slot whose `until` moves ahead keeps its place until that comes up: so a renewal,
 * which is what happens most, costs nothing here.
 */
export class SlotHeap {
  readonly #slots: Slot[] = [];

  /** The slot that ends first. */
  get first(): Slot | undefined {
    return this.firstBy(Number.POSITIVE_INFINITY);
  }

  /** The slot that ends first, if that is at or before this time. */
  firstBy(time: number): Slot | undefined {
    for (let slot = this.#slots[0]; slot !== undefined && slot.placedUntil <= time; slot = this.#slots[0]) {
      if (slot.placedUntil >= slot.until) return slot;
      if (slot.until === Number.POSITIVE_INFINITY) this.remove(slot);
      else this.#sink(slot, slot.until);
    }
    return undefined;
  }

  /** Adds the slot, or takes note of its new `until`. */
  place(slot: Slot): void {
    if (slot.heapIndex < 0) {
      slot.heapIndex = this.#slots.length;
      this.#slots.push(slot);
    } else if (slot.placedUntil <= slot.until) return;
    this.#rise(slot, slot.until);
  }

  remove(slot: Slot): void {
    const index = slot.heapIndex;
    if (index < 0) return;
    slot.heapIndex = -1;
    const last = this.#slots.pop();
    if (last === undefined || last === slot) return;
    this.#put(last, index);
    this.#rise(last, last.placedUntil);
    this.#sink(last, last.placedUntil);
  }

  #rise(slot: Slot, until: number): void {
    slot.placedUntil = until;
    while (slot.heapIndex > 0) {
      const parent = this.#slots[(slot.heapIndex - 1) >> 1];
      if (parent === undefined || parent.placedUntil <= until) return;
      this.#swap(slot, parent);
    }
  }

  #sink(slot: Slot, until: number): void {
    slot.placedUntil = until;
    for (;;) {
      const left = this.#slots[2 * slot.heapIndex + 1];
      const right = this.#slots[2 * slot.heapIndex + 2];
      const isRight = right !== undefined && left !== undefined && right.placedUntil < left.placedUntil;
      const child = isRight ? right : left;
      if (child === undefined || child.placedUntil >= until) return;
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
