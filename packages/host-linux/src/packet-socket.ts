import koffi from "koffi";
import { errnoName, SystemCallError } from "./kernel-errors.ts";
import { closeSocket, indexOfLink } from "./libc.ts";
import { formatMAC } from "./mac-address.ts";

// linux/if_packet.h and linux/if_ether.h.
const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const ADDRESS_BYTES = 20;

const library = koffi.load(null);
const libc: {
  socket: (domain: number, type: number, protocol: number) => number;
  bind: (fd: number, address: Uint8Array, length: number) => number;
  getsockname: (fd: number, address: Uint8Array, length: Uint32Array) => number;
  send: (fd: number, bytes: Uint8Array, length: number, flags: number) => number;
} = {
  socket: library.func("int socket(int, int, int)"),
  bind: library.func("int bind(int, const void *, uint32_t)"),
  getsockname: library.func("int getsockname(int, void *, uint32_t *)"),
  send: library.func("intptr_t send(int, const void *, size_t, int)"),
};

function check(call: string, result: number): number {
  if (result >= 0) return result;
  throw new SystemCallError(call, errnoName(koffi.errno()));
}

export interface PacketSocket {
  readonly fd: number;
  /** Of the link, lowercase. */
  readonly mac: string;
}

/** Whole Ethernet frames of one type on one link: packet(7). @throws {SystemCallError} ENODEV when there is no such link */
export function openPacketSocket(device: string, etherType: number): PacketSocket {
  const index = indexOfLink(device);
  if (index === 0) throw new SystemCallError("bind", "ENODEV");
  // Protocol 0 hears nothing before the bind.
  const fd = check("socket", libc.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  try {
    // struct sockaddr_ll
    const address = Buffer.alloc(ADDRESS_BYTES);
    new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF_PACKET;
    address.writeUInt16BE(etherType, 2);
    new Int32Array(address.buffer, address.byteOffset + 4, 1)[0] = index;
    check("bind", libc.bind(fd, address, address.length));
    check("getsockname", libc.getsockname(fd, address, Uint32Array.of(address.length)));
    return { fd, mac: formatMAC(address.subarray(12, 18)) };
  } catch (error) {
    closeSocket(fd);
    throw error;
  }
}

/** Sends without waiting; for sockets that are bound or connected. @throws {SystemCallError} */
export function sendNow(fd: number, bytes: Uint8Array): void {
  check("send", libc.send(fd, bytes, bytes.length, MSG_DONTWAIT));
}
