import { parseAddress } from "@cocoon-net/core";
import { checkInterfaceName } from "./interface-name.ts";
import { codeOf, kernelError } from "./kernel-errors.ts";
import { closeSocket } from "./libc.ts";
import { parseMAC } from "./mac-address.ts";
import { openPacketSocket, sendNow } from "./packet-socket.ts";

/** That an address is behind the bridge's own MAC, for one guest that may believe something else. */
export interface Announcement {
  readonly address: string;
  readonly guest: { readonly address: string; readonly mac: string };
}

const ETHERTYPE_ARP = 0x0806;
const FRAME_BYTES = 60;

/**
 * Tells guests by unasked ARP replies where addresses are now; those that do not know an address ignore it. To each one
 * alone: the guest that has the address would take a broadcast for a conflict (RFC 5227 §2.4).
 *
 * @throws {CocoonError} `kernel` when the link is gone, or without CAP_NET_RAW
 */
export function announceByArp(announcements: readonly Announcement[], device: string = "cni0"): void {
  if (announcements.length === 0) return;
  const what = `announce by ARP on ${checkInterfaceName(device)}`;
  try {
    const { fd, mac } = openPacketSocket(device, ETHERTYPE_ARP);
    try {
      for (const { address, guest } of announcements) sendNow(fd, replyFrame(mac, address, guest));
    } finally {
      closeSocket(fd);
    }
  } catch (error) {
    const code = codeOf(error);
    throw code === undefined ? error : kernelError(what, code);
  }
}

function replyFrame(mac: string, address: string, guest: Announcement["guest"]): Buffer {
  const frame = Buffer.alloc(FRAME_BYTES);
  frame.set(parseMAC(guest.mac), 0);
  frame.set(parseMAC(mac), 6);
  frame.writeUInt16BE(ETHERTYPE_ARP, 12);
  frame.set([0, 1, 8, 0, 6, 4, 0, 2], 14);
  frame.set(parseMAC(mac), 22);
  frame.writeUInt32BE(parseAddress(address), 28);
  frame.set(parseMAC(guest.mac), 32);
  frame.writeUInt32BE(parseAddress(guest.address), 38);
  return frame;
}
