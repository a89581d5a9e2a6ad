import type { DhcpSocket, Endpoint } from "@cocoon-net/dhcp";

/** A socket that outlives the servers that use it, one after the other. */
export class LentSocket implements AsyncDisposable {
  readonly #socket: DhcpSocket;
  #listener: ((packet: Uint8Array, from: Endpoint) => void) | undefined;

  constructor(socket: DhcpSocket) {
    this.#socket = socket;
    // What comes while nobody serves is dropped, as if it were lost; clients send again.
    socket.onPacket((packet, from) => this.#listener?.(packet, from));
  }

  lend(): DhcpSocket {
    return {
      send: (packet, to) => this.#socket.send(packet, to),
      onPacket: (listener) => {
        this.#listener = listener;
      },
      close: () => {
        this.#listener = undefined;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#socket.close();
  }
}
