import { randomInt } from "node:crypto";
import { type Address, formatAddress } from "@cocoon-net/core";
import {
  type DhcpPacket,
  type DhcpSocket,
  decodePacket,
  type Endpoint,
  encodePacket,
  noFile,
  noSname,
} from "@cocoon-net/dhcp";

/** The bridge of a simulated node: DHCP packets go to its server, answers to whoever waits for them. */
export class SimulatedBridge implements DhcpSocket {
  #server: (packet: Uint8Array, from: Endpoint) => void = () => {};
  readonly #clients = new Set<(packet: DhcpPacket) => void>();

  onPacket(listener: (packet: Uint8Array, from: Endpoint) => void): void {
    this.#server = listener;
  }

  send(bytes: Uint8Array): void {
    const decoded = decodePacket(bytes);
    if (!decoded.ok) throw new Error(`the server sent what is no DHCP packet: ${decoded.reason}`);
    for (const client of this.#clients) client(decoded.packet);
  }

  close(): void {
    this.#server = () => {};
  }

  /** Boots a DHCP client: DISCOVER, OFFER, REQUEST, ACK. @returns its address */
  async boot(mac: string, hostname: string, timeoutMs: number): Promise<string> {
    const offer = await this.#exchange(mac, hostname, 1, 2, new Map(), timeoutMs);
    const server = offer.options.get(54);
    if (!server) throw new Error("the OFFER names no server");
    const options = new Map([
      [50, bytesOf(offer.yiaddr)],
      [54, server],
    ]);
    const ack = await this.#exchange(mac, hostname, 3, 5, options, timeoutMs);
    return formatAddress(ack.yiaddr);
  }

  async #exchange(
    mac: string,
    hostname: string,
    type: number,
    answer: number,
    extra: ReadonlyMap<number, Uint8Array>,
    timeoutMs: number,
  ): Promise<DhcpPacket> {
    const chaddr = new Uint8Array(16);
    chaddr.set(mac.split(":").map((byte) => Number.parseInt(byte, 16)));
    const xid = randomInt(2 ** 32);
    const request = encodePacket({
      ...{ op: 1, htype: 1, hlen: 6, hops: 0, xid, secs: 0, flags: 0x8000 },
      ...{ ciaddr: 0, yiaddr: 0, siaddr: 0, giaddr: 0, chaddr, sname: noSname, file: noFile },
      options: new Map([[53, Uint8Array.of(type)], [12, new TextEncoder().encode(hostname)], ...extra]),
    });
    const { promise, resolve } = Promise.withResolvers<DhcpPacket | undefined>();
    const listener = (packet: DhcpPacket): void => {
      if (packet.xid === xid && packet.options.get(53)?.[0] === answer) resolve(packet);
    };
    this.#clients.add(listener);
    // A client repeats what got no answer (RFC 2131 §4.1).
    const repeating = setInterval(() => this.#server(request, { address: "0.0.0.0", port: 68 }), 500);
    const timer = setTimeout(() => resolve(undefined), timeoutMs);
    try {
      this.#server(request, { address: "0.0.0.0", port: 68 });
      const packet = await promise;
      if (packet) return packet;
      throw new Error(`no answer to DHCP message type ${type} of ${mac} within ${timeoutMs} ms`);
    } finally {
      clearInterval(repeating);
      clearTimeout(timer);
      this.#clients.delete(listener);
    }
  }
}

function bytesOf(address: Address): Uint8Array {
  return Uint8Array.of(address >>> 24, (address >>> 16) & 255, (address >>> 8) & 255, address & 255);
}
