import { checkInterfaceName } from "./interface-name.ts";
import { codeOf, errnoName, kernelError, SystemCallError } from "./kernel-errors.ts";
import { closeSocket, indexOfLink, openNetlinkSocket, receive } from "./libc.ts";
import { parseMAC } from "./mac-address.ts";
import { decodeMessages, encodeMessage, readS32, withAttributes, writeU32 } from "./netlink-message.ts";
import { sendNow } from "./packet-socket.ts";

/** Which port of a bridge a MAC is behind, from the bridge's forwarding table. */
export interface BridgePorts extends AsyncDisposable {
  /**
   * @returns an id of the port, stable as long as the port exists; undefined when the bridge has not seen the MAC
   * @throws {CocoonError} when the kernel does not say
   */
  portOf(mac: string): string | undefined;
}

const AF_BRIDGE = 7;
const RTM_NEWNEIGH = 28;
const RTM_GETNEIGH = 30;
const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 1;
const NDA_LLADDR = 2;
const NDA_MASTER = 9;

/**
 * Opens the view on a bridge's forwarding table (`bridge fdb get`, Linux 5.0).
 * @throws {NotFoundError} when there is no such link
 * @throws {CocoonError} when it is no bridge
 */
export function openBridgePorts(device = "cni0"): BridgePorts {
  const ports = new ForwardingTable(checkInterfaceName(device));
  try {
    ports.portOf("02:00:00:00:00:00");
    return ports;
  } catch (error) {
    ports.close();
    throw error;
  }
}

class ForwardingTable implements BridgePorts {
  readonly #device: string;
  readonly #fd: number;
  readonly #buffer: Buffer = Buffer.alloc(4096);
  #sequence = 0;
  #isClosed = false;

  constructor(device: string) {
    this.#device = device;
    try {
      this.#fd = openNetlinkSocket();
    } catch (error) {
      throw kernelError("open netlink socket", codeOf(error) ?? String(error));
    }
  }

  portOf(mac: string): string | undefined {
    if (this.#isClosed) return undefined;
    try {
      return this.#ask(mac);
    } catch (error) {
      const code = codeOf(error);
      if (code === "ENOENT") return undefined;
      throw code === undefined ? error : kernelError(`find port of ${mac} on bridge ${this.#device}`, code);
    }
  }

  /** The kernel has answered when the request has been sent, so nothing waits here. */
  #ask(mac: string): string | undefined {
    const index = indexOfLink(this.#device);
    if (index === 0) throw new SystemCallError("if_nametoindex", "ENODEV");
    this.#sequence = (this.#sequence % 0xffff_fffe) + 1;
    const header = Buffer.alloc(12); // struct ndmsg
    header[0] = AF_BRIDGE;
    const master = Buffer.alloc(4);
    writeU32(master, index, 0);
    const payload = withAttributes(header, [
      [NDA_LLADDR, parseMAC(mac)],
      [NDA_MASTER, master],
    ]);
    const sequence = this.#sequence;
    sendNow(this.#fd, encodeMessage({ type: RTM_GETNEIGH, flags: NLM_F_REQUEST, sequence, payload }));
    for (;;) {
      const length = receive(this.#fd, this.#buffer);
      for (const message of decodeMessages(this.#buffer.subarray(0, length))) {
        if (message.sequence !== sequence) continue;
        if (message.type === RTM_NEWNEIGH) return String(readS32(message.payload, 4));
        if (message.type === NLMSG_ERROR) {
          throw new SystemCallError("RTM_GETNEIGH", errnoName(-readS32(message.payload, 0)));
        }
      }
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSocket(this.#fd);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
