/** Keys in the order of their UTF-8 bytes, as servers keep them, for ranges and pages. */
export class SortedKeys {
  readonly #keys: string[] = [];

  add(key: string): void {
    const at = this.#firstNotBefore(key);
    if (this.#keys[at] !== key) this.#keys.splice(at, 0, key);
  }

  delete(key: string): void {
    const at = this.#firstNotBefore(key);
    if (this.#keys[at] === key) this.#keys.splice(at, 1);
  }

  clear(): void {
    this.#keys.length = 0;
  }

  /** Keys that start with `prefix` and, when given, come after `after`. */
  *range(prefix: string, after?: string): Generator<string, void, void> {
    const start = after === undefined || compareKeys(after, prefix) < 0 ? prefix : after;
    for (let at = this.#firstNotBefore(start); at < this.#keys.length; at += 1) {
      const key = this.#keys[at];
      if (key === undefined || !key.startsWith(prefix)) return;
      if (key !== after) yield key;
    }
  }

  #firstNotBefore(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const found = this.#keys[middle];
      if (found !== undefined && compareKeys(found, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Order of the keys' UTF-8 bytes; JavaScript's own order of strings differs beyond U+FFFF. */
export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at += 1) {
    const left = a.charCodeAt(at);
    const right = b.charCodeAt(at);
    if (left !== right) return rank(left) - rank(right);
  }
  return a.length - b.length;
}

/** Surrogates encode code points above U+FFFF, so they sort after every other code unit. */
function rank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}
