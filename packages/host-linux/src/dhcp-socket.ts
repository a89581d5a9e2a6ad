import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { AuthError, type CocoonError, ConflictError, NotFoundError } from "@cocoon-net/core";
import { checkInterfaceName } from "./interface-name.ts";
import { codeOf, kernelError } from "./kernel-errors.ts";
import * as libc from "./libc.ts";
import { ownersOfUdpPort } from "./port-owner.ts";

export interface DhcpSocketOptions {
  /** Default `cni0`. */
  readonly device?: string | undefined;
  /** Default 67. */
  readonly port?: number | undefined;
  /** Called for a packet that could not be sent, or received. Default: a process warning. */
  readonly onError?: ((error: Error) => void) | undefined;
}

/**
 * A UDP socket that hears and speaks on one device only, broadcasts included. What it sends carries the device's own
 * address as its source, because the kernel takes it from the device. It belongs to the link, not to the link's name: when
 * the link is deleted and made anew, the socket hears nothing any more and has to be opened again.
 */
export interface DhcpSocket extends AsyncDisposable {
  onPacket(listener: (packet: Uint8Array, from: { address: string; port: number }) => void): void;
  /** Queues a packet, which must not be changed afterwards. Failures go to `onError`. */
  send(packet: Uint8Array, to: { address: string; port: number }): void;
  /** Idempotent. */
  close(): Promise<void>;
}

/** A boot storm arrives within milliseconds; the kernel counts about 1 KiB for each waiting packet. */
const RECEIVE_BUFFER_BYTES = 8 * 2 ** 20;

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
  return new BoundSocket(socket, device, onError);
}

class BoundSocket implements DhcpSocket {
  readonly #socket: Socket;
  readonly #device: string;
  readonly #onError: (error: Error) => void;
  #closed: Promise<unknown> | undefined;

  constructor(socket: Socket, device: string, onError: (error: Error) => void) {
    this.#socket = socket;
    this.#device = device;
    this.#onError = onError;
    socket.on("error", (error) =>
      onError(kernelError(`receive on ${device}`, codeOf(error) ?? error.message)),
    );
  }

  onPacket(listener: (packet: Uint8Array, from: { address: string; port: number }) => void): void {
    this.#socket.on("message", listener);
  }

  send(packet: Uint8Array, to: { address: string; port: number }): void {
    if (this.#closed !== undefined) return;
    this.#socket.send(packet, to.port, to.address, (error) => {
      if (error === null || this.#closed !== undefined) return;
      const what = `send to ${to.address}:${to.port} on ${this.#device}`;
      this.#onError(kernelError(what, codeOf(error) ?? error.message));
    });
  }

  async close(): Promise<void> {
    if (this.#closed === undefined) {
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
