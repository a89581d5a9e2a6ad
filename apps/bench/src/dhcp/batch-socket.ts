import koffi from "koffi";

// linux/socket.h, the same on x86-64 and arm64.
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SO_TIMESTAMPNS = 35;
const MSG_DONTWAIT = 0x40;
const CLOCK_REALTIME = 0;

// struct mmsghdr, struct iovec and a control message with a struct timespec of 64-bit Linux, in bytes.
const MESSAGE = { size: 64, vector: 16, vectors: 24, control: 32, controlLength: 40, length: 56 } as const;
const VECTOR = { size: 16, base: 0, length: 8 } as const;
const CONTROL = { size: 32, seconds: 16, nanoseconds: 24 } as const;

/** Datagrams per system call. */
const BATCH = 64;
/** Room for a DHCP message on an Ethernet. */
const SLOT_BYTES = 1_536;
const RECEIVE_BUFFER_BYTES = 8 * 2 ** 20;
/** A connected socket reports once what came back for earlier datagrams. */
const MOST_ERRORS_IN_A_ROW = 3;

const library = koffi.load(null);
const libc: {
  socket: (domain: number, type: number, protocol: number) => number;
  setsockopt: (fd: number, level: number, name: number, value: Uint8Array, length: number) => number;
  bind: (fd: number, address: Uint8Array, length: number) => number;
  connect: (fd: number, address: Uint8Array, length: number) => number;
  sendmmsg: (fd: number, messages: bigint, count: number, flags: number) => number;
  recvmmsg: (fd: number, messages: bigint, count: number, flags: number, timeout: null) => number;
  clock_gettime: (clock: number, time: Uint8Array) => number;
  close: (fd: number) => number;
} = {
  socket: library.func("int socket(int, int, int)"),
  setsockopt: library.func("int setsockopt(int, int, int, const void *, uint32_t)"),
  bind: library.func("int bind(int, const void *, uint32_t)"),
  connect: library.func("int connect(int, const void *, uint32_t)"),
  sendmmsg: library.func("int sendmmsg(int, uintptr_t, unsigned int, int)"),
  recvmmsg: library.func("int recvmmsg(int, uintptr_t, unsigned int, int, void *)"),
  clock_gettime: library.func("int clock_gettime(int, void *)"),
  close: library.func("int close(int)"),
};

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** Called with each datagram, which may be read until it returns, its length, and when the kernel received it. */
export type OnDatagram = (datagram: DataView, length: number, atMs: number) => void;

/**
 * A UDP socket to one peer that costs as little as one can from Node: datagrams are kept where the kernel reads them, go
 * and come many per system call, and nothing waits in an event loop. Times are the kernel's, of its real-time clock, so
 * that a datagram may lie in the buffer for a while.
 */
export class BatchSocket implements Disposable {
  /** Memory of the datagrams that go out, one slot each. */
  readonly #slots: Buffer;
  readonly #lengths: Uint16Array;
  readonly #slotsAt: number;
  readonly #outgoing = new MessageArray();
  readonly #incoming = new MessageArray();
  readonly #received: readonly DataView[];
  readonly #fd: number;
  #queued = 0;

  /** @throws when the address cannot be bound */
  constructor(local: Endpoint, peer: Endpoint, slots: number) {
    const memory = new ArrayBuffer(slots * SLOT_BYTES);
    this.#slots = Buffer.from(memory);
    this.#slotsAt = Number(koffi.address(memory));
    this.#lengths = new Uint16Array(slots);
    const inbox = new ArrayBuffer(BATCH * SLOT_BYTES);
    const inboxAt = Number(koffi.address(inbox));
    this.#received = Array.from({ length: BATCH }, (_, index) => {
      this.#incoming.point(index, inboxAt + index * SLOT_BYTES, SLOT_BYTES);
      this.#incoming.askForTime(index);
      return new DataView(inbox, index * SLOT_BYTES, SLOT_BYTES);
    });
    this.#fd = libc.socket(AF_INET, SOCK_DGRAM, 0);
    try {
      // No answer may be lost here: it would count against the server.
      this.#check("SO_RCVBUFFORCE", this.#set(SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES));
      this.#check("SO_TIMESTAMPNS", this.#set(SO_TIMESTAMPNS, 1));
      this.#check(`bind to ${local.address}:${local.port}`, libc.bind(this.#fd, socketAddress(local), 16));
      this.#check(`connect to ${peer.address}`, libc.connect(this.#fd, socketAddress(peer), 16));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** The memory of a slot, to be written. What goes out of it has `length` bytes. */
  slot(index: number, length: number): Buffer {
    this.#lengths[index] = length;
    return this.#slots.subarray(index * SLOT_BYTES, index * SLOT_BYTES + length);
  }

  /** Sets 32 bits, in network order, of what a slot holds. */
  setWord(index: number, offset: number, value: number): void {
    this.#slots.writeUInt32BE(value, index * SLOT_BYTES + offset);
  }

  /** Queues what a slot holds, which must not change before `flush`. */
  send(index: number): void {
    this.#outgoing.point(this.#queued++, this.#slotsAt + index * SLOT_BYTES, this.#lengths[index] ?? 0);
    if (this.#queued === BATCH) this.flush();
  }

  flush(): void {
    let sent = 0;
    let errors = 0;
    while (sent < this.#queued) {
      const count = libc.sendmmsg(this.#fd, this.#outgoing.at(sent), this.#queued - sent, 0);
      if (count > 0) sent += count;
      else if (++errors > MOST_ERRORS_IN_A_ROW) this.#check("sendmmsg", count);
    }
    this.#queued = 0;
  }

  /** Takes what has arrived, without waiting. */
  receive(onDatagram: OnDatagram): number {
    let received = 0;
    for (;;) {
      const count = libc.recvmmsg(this.#fd, this.#incoming.at(0), BATCH, MSG_DONTWAIT, null);
      for (let index = 0; index < count; index++) {
        const datagram = this.#received[index];
        const length = this.#incoming.lengthOf(index);
        if (datagram !== undefined) onDatagram(datagram, length, this.#incoming.timeOf(index));
      }
      received += Math.max(0, count);
      if (count < BATCH) return received;
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }

  #set(option: number, value: number): number {
    return libc.setsockopt(this.#fd, SOL_SOCKET, option, new Uint8Array(new Int32Array([value]).buffer), 4);
  }

  #check(call: string, result: number): void {
    if (result < 0) throw new Error(`${call}: errno ${koffi.errno()}`);
  }
}

const time = new BigInt64Array(2);
const timeBytes = new Uint8Array(time.buffer);

/** The kernel's real-time clock, in milliseconds; the one that received datagrams are stamped with. */
export function realTimeMs(): number {
  libc.clock_gettime(CLOCK_REALTIME, timeBytes);
  return Number(time[0]) * 1e3 + Number(time[1]) / 1e6;
}

/** An array of struct mmsghdr with one struct iovec each, and room for the time when it is to be received. */
class MessageArray {
  readonly #start: bigint;
  readonly #view: DataView;
  static readonly #vectorsAt = BATCH * MESSAGE.size;
  static readonly #controlsAt = MessageArray.#vectorsAt + BATCH * VECTOR.size;

  constructor() {
    const memory = new ArrayBuffer(MessageArray.#controlsAt + BATCH * CONTROL.size);
    this.#start = koffi.address(memory);
    this.#view = new DataView(memory);
    for (let index = 0; index < BATCH; index++) {
      const vector = this.#start + BigInt(MessageArray.#vectorsAt + index * VECTOR.size);
      this.#view.setBigUint64(index * MESSAGE.size + MESSAGE.vector, vector, true);
      this.#view.setBigUint64(index * MESSAGE.size + MESSAGE.vectors, 1n, true);
    }
  }

  at(index: number): bigint {
    return this.#start + BigInt(index * MESSAGE.size);
  }

  /** Where the datagram is, and how long. */
  point(index: number, address: number, length: number): void {
    const at = MessageArray.#vectorsAt + index * VECTOR.size;
    this.#view.setUint32(at + VECTOR.base, address % 2 ** 32, true);
    this.#view.setUint32(at + VECTOR.base + 4, Math.floor(address / 2 ** 32), true);
    this.#view.setUint32(at + VECTOR.length, length, true);
  }

  /** Lets the kernel say when it received the datagram. */
  askForTime(index: number): void {
    const at = index * MESSAGE.size;
    const control = this.#start + BigInt(MessageArray.#controlsAt + index * CONTROL.size);
    this.#view.setBigUint64(at + MESSAGE.control, control, true);
    this.#view.setUint32(at + MESSAGE.controlLength, CONTROL.size, true);
  }

  lengthOf(index: number): number {
    return this.#view.getUint32(index * MESSAGE.size + MESSAGE.length, true);
  }

  /** When the kernel received the datagram, to be asked once. */
  timeOf(index: number): number {
    const at = MessageArray.#controlsAt + index * CONTROL.size;
    const seconds = this.#view.getUint32(at + CONTROL.seconds, true);
    this.#view.setUint32(index * MESSAGE.size + MESSAGE.controlLength, CONTROL.size, true);
    return seconds * 1e3 + this.#view.getUint32(at + CONTROL.nanoseconds, true) / 1e6;
  }
}

function socketAddress({ address, port }: Endpoint): Uint8Array {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(address.split(".").map(Number), 4);
  return bytes;
}
