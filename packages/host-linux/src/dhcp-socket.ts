import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { AuthError, type CocoonError, ConflictError, NotFoundError, parseAddress } from "@cocoon-net/core";
import { DatagramBatch } from "./datagram-batch.ts";
import { checkInterfaceName } from "./interface-name.ts";
import { codeOf, kernelError } from "./kernel-errors.ts";
import * as libc from "./libc.ts";
import { LinkWatch } from "./link-watch.ts";
import { ownersOfUdpPort } from "./port-owner.ts";

export interface DhcpSocketOptions {
  /** Default `cni0`. */
  readonly device?: string | undefined;
  /** Default 67. */
  readonly port?: number | undefined;
  /** Called for a packet that could not be sent, or received. Default: a process warning. */
  readonly onError?: ((error: Error) => void) | undefined;
  /**
   * Called when the link is back: made anew, after the socket has moved to it, or up after it was down. Its routes went
   * meanwhile, and with an old link its addresses.
   */
  readonly onLinkBack?: (() => void) | undefined;
}

/**
 * A UDP socket that hears and speaks on one device only, broadcasts included. What it sends carries the device's own
 * address as its source, because the kernel takes it from the device. To the kernel it belongs to a link, not to a name:
 * when the link is deleted and made anew, it is moved to the new one.
 */
export interface DhcpSocket extends AsyncDisposable {
  onPacket(listener: (packet: Uint8Array, from: { address: string; port: number }) => void): void;
  /** Queues a packet, which must not be changed before the next turn of the event loop. Failures go to `onError`. */
  send(packet: Uint8Array, to: { address: string; port: number }): void;
  /** Idempotent. */
  close(): Promise<void>;
}

/**
 * Some 6,000 packets: the kernel doubles it and counts about 1.3 KiB for each. That takes in any boot storm, and is served
 * in a quarter of a second: in a longer queue under a flood, everybody's answer would come too late to be of use.
 */
const RECEIVE_BUFFER_BYTES = 4 * 2 ** 20;
/** Datagrams taken per system call. More make the calls rarer by little and the others wait for longer. */
const BATCH = 64;
/** The longest UDP datagram there is. */
const LONGEST_DATAGRAM = 65_507;
/** Answers per system call: what one write of the journal lets out leaves together. */
const ANSWERS = 512;
/** What each of them may have on average. Where there is no room, they leave one by one. */
const LONG_ANSWER = 1_500;
/** When packets come with less than this between them … */
const BUSY_GAP_MS = 0.1;
/** … and fewer than this are there, … */
const FEW = 16;
/** … the next are let come together for this long. A turn of the event loop costs more than a packet. */
const NAP_MS = 1;

/**
 * Opens the socket of a DHCP server.
 *
 * @throws {ConflictError} when another server has the port, also one that listens on all devices; the message names it
 * @throws {AuthError} without root
 * @throws {NotFoundError} when there is no such device
 */
export async function openDhcpSocket(options: DhcpSocketOptions = {}): Promise<DhcpSocket> {
  const device = checkInterfaceName(options.device ?? "cni0");
  const port = options.port ?? 67;
  const onError = options.onError ?? ((error: Error): void => process.emitWarning(error));
  const fd = libc.openUdpSocket();
  let socket: Socket;
  try {
    libc.bindToDevice(fd, device);
    libc.allowBroadcast(fd);
    // Without SO_REUSEADDR: of two DHCP servers on one link, the kernel refuses the second.
    libc.bindToPort(fd, port);
    socket = createSocket({ type: "udp4", lookup: (host, _options, done) => done(null, host, 4) });
    const listening = once(socket, "listening");
    socket.bind({ fd });
    await listening;
  } catch (error) {
    libc.closeSocket(fd);
    throw await explain(error, device, port);
  }
  // libuv has just turned it on for the socket that it took over.
  libc.setAddressReuse(fd, false);
  try {
    libc.forceReceiveBuffer(fd, RECEIVE_BUFFER_BYTES);
  } catch (error) {
    onError(kernelError(`enlarge receive buffer of UDP port ${port}`, codeOf(error) ?? String(error)));
  }
  return new BoundSocket(socket, fd, device, { ...options, onError });
}

interface Outgoing {
  readonly packet: Uint8Array;
  readonly to: { address: string; port: number };
}

/**
 * `node:dgram` waits, and hands over the first packet of those that have come. The others are taken and all answers of a
 * turn are given with one system call per batch: that is what a packet costs less than half of.
 */
class BoundSocket implements DhcpSocket {
  readonly #socket: Socket;
  readonly #fd: number;
  readonly #device: string;
  readonly #onError: (error: Error) => void;
  readonly #incoming = new DatagramBatch(BATCH, LONGEST_DATAGRAM);
  readonly #outgoing = new DatagramBatch(ANSWERS, LONG_ANSWER);
  readonly #link: LinkWatch;
  #queue: Outgoing[] = [];
  #takenThisTurn = 0;
  #idleSince = 0;
  readonly #bed = new Int32Array(new SharedArrayBuffer(4));
  #closed: Promise<unknown> | undefined;

  constructor(
    socket: Socket,
    fd: number,
    device: string,
    options: DhcpSocketOptions & { onError: (error: Error) => void },
  ) {
    this.#socket = socket;
    this.#fd = fd;
    this.#device = device;
    this.#onError = options.onError;
    socket.on("error", (error) => this.#fail(`receive on ${device}`, error));
    this.#link = new LinkWatch(device, () => {
      try {
        libc.bindToDevice(fd, device);
      } catch (error) {
        this.#fail(`listen on the new ${device}`, error);
        return false;
      }
      options.onLinkBack?.();
      return true;
    });
  }

  onPacket(listener: (packet: Uint8Array, from: { address: string; port: number }) => void): void {
    this.#socket.on("message", (packet, from) => {
      listener(packet, from);
      this.#takeMore(listener);
      this.#idleSince = performance.now();
    });
  }

  #takeMore(listener: (packet: Uint8Array, from: { address: string; port: number }) => void): void {
    // The event loop has other work too: what the disk and the routes have finished lets answers out.
    if (this.#takenThisTurn >= 2 * BATCH) return;
    const isFirst = this.#takenThisTurn === 0;
    if (isFirst) {
      setImmediate(() => {
        this.#takenThisTurn = 0;
      });
    }
    this.#takenThisTurn++;
    const isBusy = performance.now() - this.#idleSince < BUSY_GAP_MS;
    const taken = this.#takeBatch(listener);
    if (!isFirst || !isBusy || taken >= FEW) return;
    // As a network card does that holds its interrupts back. Nothing else of the process waits for longer than this.
    Atomics.wait(this.#bed, 0, 0, NAP_MS);
    this.#takeBatch(listener);
  }

  /** @returns how many packets there were */
  #takeBatch(listener: (packet: Uint8Array, from: { address: string; port: number }) => void): number {
    if (this.#closed !== undefined) return 0;
    let count = 0;
    try {
      count = this.#incoming.receive(this.#fd);
    } catch (error) {
      this.#fail(`receive on ${this.#device}`, error);
    }
    this.#takenThisTurn += count;
    for (let index = 0; index < count; index++) {
      listener(this.#incoming.packet(index), this.#incoming.sender(index));
    }
    return count;
  }

  send(packet: Uint8Array, to: { address: string; port: number }): void {
    if (this.#closed !== undefined) return;
    // After everything that this turn of the event loop still does, so that its answers leave together.
    if (this.#queue.push({ packet, to }) === 1) process.nextTick(() => this.#flush());
  }

  #flush(): void {
    while (this.#queue.length > 0) this.#sendBatch(this.#queue.splice(0, ANSWERS));
  }

  #sendBatch(batch: readonly Outgoing[]): void {
    let count = 0;
    let sent = 0;
    let address = 0;
    let text = "";
    this.#outgoing.clear();
    for (const { packet, to } of batch) {
      // A relay gets many in a row.
      if (to.address !== text) {
        text = to.address;
        address = parseAddress(text);
      }
      if (!this.#outgoing.put(packet, address, to.port)) break;
      count++;
    }
    try {
      while (sent < count) sent += this.#outgoing.send(this.#fd, sent);
    } catch {
      // libuv waits for room, and reports what cannot be sent.
    }
    for (const { packet, to } of batch.slice(sent)) {
      this.#socket.send(packet, to.port, to.address, (error) => {
        if (error !== null) this.#fail(`send to ${to.address}:${to.port} on ${this.#device}`, error);
      });
    }
  }

  #fail(what: string, error: unknown): void {
    if (this.#closed === undefined) this.#onError(kernelError(what, codeOf(error) ?? String(error)));
  }

  async close(): Promise<void> {
    if (this.#closed === undefined) {
      this.#link[Symbol.dispose]();
      this.#flush();
      this.#closed = once(this.#socket, "close");
      this.#socket.close();
    }
    await this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function explain(error: unknown, device: string, port: number): Promise<unknown> {
  const where = `UDP port ${port} on ${device}`;
  const code = codeOf(error);
  if (code === "EADDRINUSE") {
    const owners = await ownersOfUdpPort(port);
    const by = owners.length === 0 ? "another process" : owners.join(" and ");
    return new ConflictError(`${where} is in use by ${by}`, {
      hint: `stop it, or bind it to its own interface (dnsmasq: bind-interfaces and except-interface=${device})`,
    }) satisfies CocoonError;
  }
  if (code === "ENODEV") return new NotFoundError(`listen on ${where}: there is no link named ${device}`);
  if (code === "EPERM" || code === "EACCES") {
    return new AuthError(`listen on ${where}: ${code}`, {
      hint: "run as root, or with CAP_NET_RAW and CAP_NET_BIND_SERVICE",
    });
  }
  return code === undefined ? error : kernelError(`listen on ${where}`, code);
}
