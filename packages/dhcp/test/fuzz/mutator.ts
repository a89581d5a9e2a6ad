import type { Seed } from "./seeds.ts";

/** Mulberry32: the same packets for the same seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 … below - 1. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(values: readonly T[]): T {
    const value = values[this.below(values.length)];
    if (value === undefined) throw new Error("nothing to pick from");
    return value;
  }
}

interface Piece {
  code: number;
  value: Uint8Array;
  /** What the length byte says, when that is a lie. */
  length: number;
}

const MAGIC = [0x63, 0x82, 0x53, 0x63];
const interesting = [0, 1, 12, 50, 51, 52, 53, 54, 55, 57, 61, 80, 82, 118, 121, 255];
const lengths = [0, 1, 2, 3, 4, 5, 8, 64, 127, 128, 254, 255];

/**
 * Turns seeds into packets that are nearly right: fields that a server looks at get values that matter, options are
 * dropped, doubled, split, overlapped, moved into `file` and `sname`, given lengths of 0 and 255; some packets are then
 * damaged byte by byte, cut, or grown.
 */
export class Mutator {
  readonly #random: Random;
  readonly #seeds: readonly Seed[];
  readonly #buffer = new Uint8Array(4096);
  /** The address that each client was told last, by the last byte of its MAC. */
  readonly #told: (Uint8Array | undefined)[] = [];
  #client = 0;

  constructor(random: Random, seeds: readonly Seed[]) {
    this.#random = random;
    this.#seeds = seeds;
  }

  /** The client of the last packet was told of this address. */
  learn(address: Uint8Array): void {
    this.#told[this.#client] = address;
  }

  /** The bytes are good until the next call. */
  next(): Uint8Array {
    const random = this.#random;
    const buffer = this.#buffer;
    const seed = random.pick(this.#seeds);
    buffer.fill(0, 0, 700);
    buffer.set(seed.header);
    buffer.set(MAGIC, 236);
    this.#head(buffer);
    const pieces = seed.options.map(([code, value]): Piece => ({ code, value, length: value.length }));
    this.#values(pieces);
    if (random.chance(70)) for (let left = random.below(4); left > 0; left--) this.#change(pieces);
    let end = this.#write(pieces, buffer);
    end = Math.max(end, random.chance(80) ? seed.size : 0);
    return random.chance(30) ? this.#damage(buffer, end) : buffer.subarray(0, end);
  }

  /** Header fields that a server decides on. */
  #head(buffer: Uint8Array): void {
    const random = this.#random;
    buffer.set([random.below(256), random.below(256), random.below(256), random.below(256)], 4);
    if (random.chance(50)) buffer[10] = random.chance(50) ? 0x80 : 0;
    this.#client = random.below(120);
    buffer.set([0x52, 0x54, 0, 0, random.chance(95) ? 0 : random.below(256), this.#client], 28);
    // Where the client had an address of its own, it has one now.
    const hasAddress = (buffer[12] ?? 0) !== 0;
    if (random.chance(hasAddress ? 95 : 10)) buffer.set(this.#address(), 12);
    if (random.chance(10)) buffer.set(Uint8Array.of(10, 0, random.chance(80) ? 0 : 1, random.below(256)), 24);
    if (random.chance(2)) buffer.fill(random.pick([0, 255]), 28, 34);
    if (random.chance(2)) buffer[random.below(4)] = random.below(256);
  }

  #address(): Uint8Array {
    const random = this.#random;
    const told = this.#told[this.#client];
    if (told !== undefined && random.chance(70)) return told;
    if (random.chance(20)) return new Uint8Array(4);
    if (random.chance(5)) return new Uint8Array(4).fill(255);
    if (random.chance(5)) return Uint8Array.of(random.below(256), random.below(256), 0, random.below(256));
    return Uint8Array.of(10, 0, 0, random.chance(80) ? random.below(70) : random.below(256));
  }

  #values(pieces: Piece[]): void {
    const random = this.#random;
    for (const piece of pieces) {
      if (piece.code === 50) piece.value = this.#address();
      else if (piece.code === 54)
        piece.value = random.chance(85) ? Uint8Array.of(10, 0, 0, 1) : this.#address();
      else if (piece.code === 53 && random.chance(5)) piece.value = Uint8Array.of(random.below(20));
      else if (piece.code === 61 && random.chance(30)) piece.value = this.#bytes(random.below(40));
      piece.length = piece.value.length;
    }
    if (random.chance(10)) pieces.push({ code: 80, value: new Uint8Array(0), length: 0 });
    if (random.chance(10)) this.#add(pieces, 82, this.#bytes(random.pick(lengths)));
    if (random.chance(5)) this.#add(pieces, 118, this.#address());
    if (random.chance(3)) this.#add(pieces, 82, Uint8Array.of(5, 4, ...this.#address()));
  }

  #add(pieces: Piece[], code: number, value: Uint8Array): void {
    pieces.push({ code, value, length: value.length });
  }

  #bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let index = 0; index < length; index++) bytes[index] = this.#random.below(256);
    return bytes;
  }

  #change(pieces: Piece[]): void {
    const random = this.#random;
    const at = random.below(pieces.length + 1);
    const piece = pieces[at];
    switch (random.below(8)) {
      case 0:
        pieces.splice(at, 1);
        break;
      case 1:
        if (piece !== undefined) pieces.splice(random.below(pieces.length + 1), 0, { ...piece });
        break;
      case 2: // the length byte lies: the options after it overlap its value, or it runs past the end
        if (piece !== undefined) piece.length = random.pick(lengths);
        break;
      case 3: // RFC 3396
        if (piece !== undefined) {
          const cut = random.below(piece.value.length + 1);
          const rest = piece.value.subarray(cut);
          pieces.splice(at, 1, { code: piece.code, value: piece.value.subarray(0, cut), length: cut });
          this.#add(pieces, piece.code, rest);
        }
        break;
      case 4:
        this.#add(pieces, random.pick(interesting), this.#bytes(random.pick(lengths)));
        break;
      case 5:
        this.#add(pieces, random.below(256), this.#bytes(random.below(30)));
        break;
      case 6:
        if (piece !== undefined) {
          piece.value = this.#bytes(random.pick(lengths));
          piece.length = piece.value.length;
        }
        break;
      default:
        pieces.reverse();
    }
  }

  /** @returns where the packet ends */
  #write(pieces: readonly Piece[], buffer: Uint8Array): number {
    const random = this.#random;
    const isOverloaded = random.chance(12);
    let at = 240;
    const put = (into: number, { code, value, length }: Piece, limit: number): number => {
      if (into + 2 + value.length > limit) return into;
      buffer[into] = code;
      buffer[into + 1] = length;
      buffer.set(value, into + 2);
      return into + 2 + value.length;
    };
    const limit = 2200;
    const places = [108, 44];
    const ends = [236, 108];
    if (isOverloaded) {
      at = put(
        at,
        { code: 52, value: Uint8Array.of(random.below(random.chance(90) ? 4 : 256)), length: 1 },
        limit,
      );
    }
    for (const piece of pieces) {
      const field = isOverloaded ? random.below(4) : 3;
      const place = places[field];
      if (place === undefined) at = put(at, piece, limit);
      else places[field] = put(place, piece, ends[field] ?? 0);
      if (random.chance(2)) at++; // PAD
    }
    if (isOverloaded && random.chance(80)) for (const place of places) buffer[place] = 255;
    if (random.chance(95)) buffer[at++] = 255;
    return at;
  }

  #damage(buffer: Uint8Array, end: number): Uint8Array {
    const random = this.#random;
    switch (random.below(8)) {
      case 0:
        return buffer.subarray(0, random.below(end + 1));
      case 1: {
        const longer = random.pick([1400, 1472, 1500, 2048, 2049, 4096]);
        for (let at = end; at < longer; at += 1 + random.below(9)) buffer[at] = random.below(256);
        const packet = buffer.slice(0, longer);
        buffer.fill(0, end);
        return packet;
      }
      case 2:
        buffer.fill(random.pick([0, 255]), random.chance(50) ? 0 : 240, end);
        return buffer.subarray(0, end);
      case 3:
        buffer[236 + random.below(4)] = random.below(256);
        return buffer.subarray(0, end);
      default:
        for (let left = 1 + random.below(8); left > 0; left--) buffer[random.below(end)] = random.below(256);
        return buffer.subarray(0, end);
    }
  }
}
