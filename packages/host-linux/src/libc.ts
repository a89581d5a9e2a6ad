import koffi from "koffi";
import { errnoName, SystemCallError } from "./kernel-errors.ts";

// linux/socket.h, asm-generic/socket.h and linux/netlink.h, the same on x86-64 and arm64.
const AF_UNIX = 1;
const AF_INET = 2;
const AF_NETLINK = 16;
const NETLINK_ROUTE = 0;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_BROADCAST = 6;
const SO_PEERCRED = 17;
const SO_BINDTODEVICE = 25;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const RTMGRP_LINK = 1;
const F_SETFL = 4;
const F_SETOWN = 8;
const F_SETSIG = 10;
const O_ASYNC = 0o20000;
const SIOCGIFFLAGS = 0x8913;
const IFF_UP = 1;
const EAGAIN = 11;
/** Room for a refusal of each request of a batch: the kernel counts about 1 KiB for one. */
const NETLINK_RECEIVE_BYTES = 2 ** 20;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;

// The process's own symbols: whichever libc Node is linked with.
const library = koffi.load(null);
const libc: {
  socket: (domain: number, type: number, protocol: number) => number;
  setsockopt: (fd: number, level: number, name: number, value: Uint8Array, length: number) => number;
  bind: (fd: number, address: Uint8Array, length: number) => number;
  connect: (fd: number, address: Uint8Array, length: number) => number;
  recv: (fd: number, buffer: Uint8Array, length: number, flags: number) => number;
  close: (fd: number) => number;
  recvmmsg: (fd: number, messages: bigint, count: number, flags: number, timeout: null) => number;
  sendmmsg: (fd: number, messages: bigint, count: number, flags: number) => number;
  if_nametoindex: (name: string) => number;
  fcntl: (fd: number, command: number, value: number) => number;
} = {
  socket: library.func("int socket(int, int, int)"),
  setsockopt: library.func("int setsockopt(int, int, int, const void *, uint32_t)"),
  bind: library.func("int bind(int, const void *, uint32_t)"),
  connect: library.func("int connect(int, const void *, uint32_t)"),
  recv: library.func("intptr_t recv(int, void *, size_t, int)"),
  close: library.func("int close(int)"),
  recvmmsg: library.func("int recvmmsg(int, uintptr_t, unsigned int, int, void *)"),
  sendmmsg: library.func("int sendmmsg(int, uintptr_t, unsigned int, int)"),
  if_nametoindex: library.func("unsigned int if_nametoindex(const char *)"),
  fcntl: library.func("int fcntl(int, int, int)"),
};

const sendCall = library.func("intptr_t send(int, const void *, size_t, int)");

function check(call: string, result: number): number {
  if (result >= 0) return result;
  throw new SystemCallError(call, errnoName(koffi.errno()));
}

/** An unbound IPv4 UDP socket. @returns its file descriptor */
export function openUdpSocket(): number {
  return check("socket", libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

/** Lets the socket send and receive on this device only: socket(7) SO_BINDTODEVICE. */
export function bindToDevice(fd: number, device: string): void {
  setOption(fd, SOL_SOCKET, "SO_BINDTODEVICE", SO_BINDTODEVICE, Buffer.from(`${device}\0`));
}

export function allowBroadcast(fd: number): void {
  setOption(fd, SOL_SOCKET, "SO_BROADCAST", SO_BROADCAST, int(1));
}

/** Whether another socket with the same wish may bind the same port. */
export function setAddressReuse(fd: number, reuse: boolean): void {
  setOption(fd, SOL_SOCKET, "SO_REUSEADDR", SO_REUSEADDR, int(reuse ? 1 : 0));
}

/** Beyond net.core.rmem_max; needs CAP_NET_ADMIN. */
export function forceReceiveBuffer(fd: number, bytes: number): void {
  setOption(fd, SOL_SOCKET, "SO_RCVBUFFORCE", SO_RCVBUFFORCE, int(bytes));
}

/** Binds to the port on all IPv4 addresses. */
export function bindToPort(fd: number, port: number): void {
  const address = Buffer.alloc(16);
  new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF_INET;
  address.writeUInt16BE(port, 2);
  check("bind", libc.bind(fd, address, address.length));
}

/** A socket to the kernel's rtnetlink, and to nobody else. Refusals come without the request but with words. */
export function openNetlinkSocket(): number {
  const fd = check("socket", libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  try {
    setOption(fd, SOL_NETLINK, "NETLINK_CAP_ACK", NETLINK_CAP_ACK, int(1));
    setOption(fd, SOL_NETLINK, "NETLINK_EXT_ACK", NETLINK_EXT_ACK, int(1));
    // struct sockaddr_nl; port 0 is the kernel.
    const kernel = Buffer.alloc(12);
    new Uint16Array(kernel.buffer, kernel.byteOffset, 1)[0] = AF_NETLINK;
    check("connect", libc.connect(fd, kernel, kernel.length));
    try {
      forceReceiveBuffer(fd, NETLINK_RECEIVE_BYTES);
    } catch {
      // Whoever may not do this may not change anything either, and has no large batches.
    }
    return fd;
  } catch (error) {
    closeSocket(fd);
    throw error;
  }
}

/**
 * A socket that hears of every change of a link: rtnetlink(7) RTMGRP_LINK. The process gets `signal` when something has
 * arrived, or was lost: fcntl(2) O_ASYNC.
 */
export function openLinkSocket(signal: number): number {
  const fd = check("socket", libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  try {
    check("fcntl F_SETSIG", libc.fcntl(fd, F_SETSIG, signal));
    check("fcntl F_SETOWN", libc.fcntl(fd, F_SETOWN, process.pid));
    check("fcntl F_SETFL", libc.fcntl(fd, F_SETFL, O_ASYNC));
    // Last, so that nothing comes without a signal. struct sockaddr_nl.
    const address = Buffer.alloc(12);
    new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF_NETLINK;
    new Uint32Array(address.buffer, address.byteOffset + 8, 1)[0] = RTMGRP_LINK;
    check("bind", libc.bind(fd, address, address.length));
    return fd;
  } catch (error) {
    closeSocket(fd);
    throw error;
  }
}

/** Sends on a worker thread. @throws {SystemCallError} */
export function send(fd: number, message: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    sendCall.async(fd, message, message.length, 0, (error: unknown, sent: number) => {
      if (error !== null) reject(error);
      else if (sent < 0) reject(new SystemCallError("send", errnoName(koffi.errno())));
      else if (sent < message.length) reject(new SystemCallError("send", "EMSGSIZE"));
      else resolve();
    });
  });
}

/** Takes a datagram that has arrived, without waiting. @returns its length @throws {SystemCallError} */
export function receive(fd: number, buffer: Uint8Array): number {
  const length = check("recv", libc.recv(fd, buffer, buffer.length, MSG_DONTWAIT | MSG_TRUNC));
  if (length > buffer.length) throw new SystemCallError("recv", "EMSGSIZE");
  return length;
}

/** Where the memory is, for structures that point to other memory. It must outlive them. */
export function addressOfMemory(memory: ArrayBuffer): bigint {
  return koffi.address(memory);
}

/**
 * Takes datagrams that have arrived into an array of struct mmsghdr, without waiting.
 *
 * @returns how many; 0 when there are none
 * @throws {SystemCallError}
 */
export function receiveMany(fd: number, messages: bigint, count: number): number {
  const received = libc.recvmmsg(fd, messages, count, MSG_DONTWAIT, null);
  // An error with its stack costs more than a packet.
  return received < 0 && koffi.errno() === EAGAIN ? 0 : check("recvmmsg", received);
}

/** Sends from an array of struct mmsghdr, without waiting. @throws {SystemCallError} about the first of them */
export function sendMany(fd: number, messages: bigint, count: number): number {
  return check("sendmmsg", libc.sendmmsg(fd, messages, count, MSG_DONTWAIT));
}

/** The index of the link that has this name now; 0 when there is none. */
export function indexOfLink(name: string): number {
  return libc.if_nametoindex(name);
}

/** Whether the link that has this name now is administratively up; false when there is none. */
export function isLinkUp(name: string): boolean {
  const request = Buffer.alloc(40); // struct ifreq
  request.write(name, 0, 15);
  const fd = openUdpSocket();
  try {
    const ioctl = library.func("int ioctl(int, unsigned long, void *)");
    if (ioctl(fd, SIOCGIFFLAGS, request) !== 0) return false;
    const [flags = 0] = new Uint16Array(request.buffer, request.byteOffset + 16, 1);
    return (flags & IFF_UP) !== 0;
  } finally {
    closeSocket(fd);
  }
}

/** Sends one datagram to a Unix socket. A path that begins with `@` is of the abstract namespace: unix(7). */
export function sendToUnixSocket(path: string, message: Uint8Array): void {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : `${path}\0`);
  const address = Buffer.alloc(2 + name.length);
  new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF_UNIX;
  name.copy(address, 2);
  const fd = check("socket", libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  try {
    check("connect", libc.connect(fd, address, address.length));
    const sendNow = library.func("intptr_t send(int, const void *, size_t, int)");
    check("send", Number(sendNow(fd, message, message.length, MSG_DONTWAIT)));
  } finally {
    closeSocket(fd);
  }
}

/** `struct ucred` of the other end of a Unix socket; undefined when it is none. */
export function readPeerCredentials(fd: number): { pid: number; uid: number; gid: number } | undefined {
  const credentials = new Uint32Array(3);
  const length = new Uint32Array([credentials.byteLength]);
  const getsockopt = library.func("int getsockopt(int, int, int, _Out_ void *, _Inout_ void *)");
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length) !== 0) return undefined;
  const [pid = 0, uid = 0, gid = 0] = credentials;
  return pid === 0 ? undefined : { pid, uid, gid };
}

/** What adjtimex(2) says of the clock; undefined where it may not be asked. */
export function clockState(): number | undefined {
  // struct timex with modes = 0 changes nothing; it is 208 bytes on 64-bit Linux.
  const state = library.func("int adjtimex(void *)")(new Uint8Array(256)) as number;
  return state < 0 ? undefined : state;
}

export function closeSocket(fd: number): void {
  libc.close(fd);
}

function setOption(fd: number, level: number, label: string, name: number, value: Uint8Array): void {
  check(`setsockopt ${label}`, libc.setsockopt(fd, level, name, value, value.length));
}

function int(value: number): Uint8Array {
  return new Uint8Array(new Int32Array([value]).buffer);
}
