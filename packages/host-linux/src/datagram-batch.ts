import { type Address, formatAddress } from "@cocoon-net/core";
import { addressOfMemory, receiveMany, sendMany } from "./libc.ts";

// struct mmsghdr, struct iovec and struct sockaddr_in of 64-bit Linux, in units of 4 bytes. Only the fields that are
// used have names.
const MESSAGE_WORDS = 16;
const MESSAGE_NAME_LENGTH = 2;
const MESSAGE_LENGTH = 14;
const VECTOR_WORDS = 4;
const VECTOR_LENGTH = 2;
const NAME_WORDS = 4;
const AF_INET = 2;
const NAME_BYTES = 16;
const WORD = 2 ** 32;

/** Datagrams that cross into or out of the kernel in one system call: recvmmsg(2) and sendmmsg(2). */
export class DatagramBatch {
  /** How many fit. */
  readonly capacity: number;
  readonly #slotBytes: number;
  readonly #start: bigint;
  readonly #words: Uint32Array;
  readonly #bytes: Buffer;
  readonly #names: DataView;
  readonly #vectorsAt: number;
  readonly #slotsAt: number;
  /** How many have been put, and where the next one goes. */
  #count = 0;
  #end: number;
  /** Whoever sends much sends in a row. */
  #sender = { number: 0, text: formatAddress(0) };

  /**
   * @param slotBytes room for one datagram that comes in; those that go out share the room of all. Memory is used only as
   *   far as datagrams have reached
   */
  constructor(capacity: number, slotBytes: number) {
    this.capacity = capacity;
    this.#slotBytes = slotBytes;
    const namesAt = 4 * (MESSAGE_WORDS + VECTOR_WORDS) * capacity;
    this.#vectorsAt = MESSAGE_WORDS * capacity;
    this.#slotsAt = namesAt + NAME_BYTES * capacity;
    this.#end = this.#slotsAt;
    const memory = new ArrayBuffer(this.#slotsAt + slotBytes * capacity);
    this.#start = addressOfMemory(memory);
    this.#bytes = Buffer.from(memory);
    this.#words = new Uint32Array(memory);
    this.#names = new DataView(memory, namesAt, NAME_BYTES * capacity);
    const pointers = new BigUint64Array(memory, 0, (MESSAGE_WORDS + VECTOR_WORDS) * (capacity / 2));
    for (let index = 0; index < capacity; index++) {
      const message = MESSAGE_WORDS * index;
      const vector = this.#vectorsAt + VECTOR_WORDS * index;
      pointers[message / 2] = this.#start + BigInt(namesAt + NAME_BYTES * index);
      this.#words[message + MESSAGE_NAME_LENGTH] = NAME_BYTES;
      pointers[message / 2 + 2] = this.#start + BigInt(4 * vector);
      pointers[message / 2 + 3] = 1n;
      pointers[vector / 2] = this.#start + BigInt(this.#slotsAt + slotBytes * index);
      this.#words[vector + VECTOR_LENGTH] = slotBytes;
      this.#words[(namesAt >> 2) + NAME_WORDS * index] = 0;
      new Uint16Array(memory, namesAt + NAME_BYTES * index, 1)[0] = AF_INET;
    }
  }

  /** Takes what has arrived, without waiting. @returns how many datagrams @throws {SystemCallError} */
  receive(fd: number): number {
    return receiveMany(fd, this.#start, this.capacity);
  }

  /** A copy of a received datagram. */
  packet(index: number): Uint8Array {
    const at = this.#slotsAt + this.#slotBytes * index;
    const length = this.#words[MESSAGE_WORDS * index + MESSAGE_LENGTH] ?? 0;
    const packet = Buffer.allocUnsafe(length);
    this.#bytes.copy(packet, 0, at, at + length);
    return packet;
  }

  /** Where a received datagram came from. */
  sender(index: number): { address: string; port: number } {
    const at = NAME_BYTES * index;
    const number = this.#names.getUint32(at + 4);
    if (number !== this.#sender.number) this.#sender = { number, text: formatAddress(number) };
    return { address: this.#sender.text, port: this.#names.getUint16(at + 2) };
  }

  /** Puts a datagram behind those that are there. @returns false when there is no room for it */
  put(packet: Uint8Array, address: Address, port: number): boolean {
    const index = this.#count;
    if (index === this.capacity || this.#end + packet.length > this.#bytes.length) return false;
    this.#bytes.set(packet, this.#end);
    const vector = this.#vectorsAt + VECTOR_WORDS * index;
    const at = Number(this.#start) + this.#end;
    this.#words[vector] = at % WORD;
    this.#words[vector + 1] = Math.floor(at / WORD);
    this.#words[vector + VECTOR_LENGTH] = packet.length;
    this.#names.setUint32(NAME_BYTES * index + 4, address);
    this.#names.setUint16(NAME_BYTES * index + 2, port);
    this.#end += packet.length;
    this.#count++;
    return true;
  }

  /** Takes out what has been put. */
  clear(): void {
    this.#count = 0;
    this.#end = this.#slotsAt;
  }

  /**
   * Sends what has been put, from one datagram on, without waiting.
   * @returns how many the kernel took: fewer when one met an error, which the next call throws
   * @throws {SystemCallError} about the first of them
   */
  send(fd: number, from: number): number {
    return sendMany(fd, this.#start + BigInt(4 * MESSAGE_WORDS * from), this.#count - from);
  }
}
