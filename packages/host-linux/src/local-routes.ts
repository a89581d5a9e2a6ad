// Routes of the kernel's table `local`: what it takes for itself. linux/rtnetlink.h.

import { type Address, DisposeStack, formatAddress } from "@cocoon-net/core";
import {
  type CallOptions,
  type HostNetwork,
  type HostNetworkOptions,
  openHostNetwork,
} from "./host-network.ts";
import { kernelError } from "./kernel-errors.ts";
import { attributesOf, readU32, withAttributes, writeU32 } from "./netlink-message.ts";
import { NetlinkSocket } from "./netlink-socket.ts";
import { encodeRouteQuery, RTM_DELROUTE, RTM_GETROUTE } from "./rtnetlink.ts";

const AF_INET = 2;
const RTA_DST = 1;
const RTA_OIF = 4;
const RT_TABLE_LOCAL = 255;
const RT_SCOPE_NOWHERE = 255;
const RTN_LOCAL = 2;
const RTPROT_KERNEL = 2;

/** A route by which the kernel takes packets for itself, as `ip -json route show table local` has it. */
export interface LocalRoute {
  readonly type: "local";
  /** `172.20.100.0/24`; a single address without its `/32`. */
  readonly dst: string;
  readonly dev: string;
}

export interface DeleteLocalRoutesOptions extends CallOptions, HostNetworkOptions {
  /** Used to look the device up, and left open. Default: one is opened for the call. */
  readonly network?: HostNetwork | undefined;
}

/**
 * Deletes IPv4 routes of type `local` to the device from the table `local`. The kernel's own, for the addresses that the
 * device has, stay whatever `isStale` says: without them the host does not answer for itself.
 *
 * @returns those that were deleted; none when there is no such device
 * @throws as {@link HostNetwork}
 */
export async function deleteLocalRoutes(
  device: string,
  isStale: (route: LocalRoute) => boolean,
  options: DeleteLocalRoutesOptions = {},
): Promise<LocalRoute[]> {
  const { signal, timeoutMs = 5_000 } = options;
  await using stack = new DisposeStack();
  const network = options.network ?? stack.use(openHostNetwork({ timeoutMs }));
  const link = await network.getLink({ name: device }, { signal });
  if (link === undefined) return [];
  const socket = stack.use(new NetlinkSocket(timeoutMs));
  const listed = await socket.list({
    what: `list local routes of ${device}`,
    type: RTM_GETROUTE,
    payload: encodeRouteQuery(),
    signal,
  });
  const deleted: LocalRoute[] = [];
  for (const message of listed) {
    const block = decodeLocalRoute(message, link.index);
    if (block === undefined) continue;
    const dst = formatAddress(block.address) + (block.prefix === 32 ? "" : `/${block.prefix}`);
    const route: LocalRoute = { type: "local", dst, dev: device };
    if (!isStale(route)) continue;
    const what = `delete local route ${dst} dev ${device}`;
    const payload = encodeLocalRoute(block, link.index);
    const answer = await socket.change({ what, type: RTM_DELROUTE, payload, signal });
    // Somebody else was faster, or the device has gone.
    if (answer.refusal === "ESRCH" || answer.refusal === "ENODEV") continue;
    if (answer.refusal !== undefined) throw kernelError(what, answer.refusal, answer);
    deleted.push(route);
  }
  return deleted;
}

interface Block {
  readonly address: Address;
  readonly prefix: number;
}

/** `struct rtmsg` that matches the route whatever its protocol and scope. */
function encodeLocalRoute({ address, prefix }: Block, index: number): Buffer {
  const header = Buffer.alloc(12);
  header[0] = AF_INET;
  header[1] = prefix;
  header[4] = RT_TABLE_LOCAL;
  header[6] = RT_SCOPE_NOWHERE;
  header[7] = RTN_LOCAL;
  const destination = Buffer.alloc(4);
  destination.writeUInt32BE(address);
  const device = Buffer.alloc(4);
  writeU32(device, index, 0);
  return withAttributes(header, [
    [RTA_DST, destination],
    [RTA_OIF, device],
  ]);
}

/** The destination of a local route to that link which somebody has added; undefined for any other route. */
function decodeLocalRoute(message: Buffer, index: number): Block | undefined {
  const isLocal = message[0] === AF_INET && message[4] === RT_TABLE_LOCAL && message[7] === RTN_LOCAL;
  if (!isLocal || message[5] === RTPROT_KERNEL) return undefined;
  const attributes = attributesOf(message, 12);
  const destination = attributes.get(RTA_DST);
  const device = attributes.get(RTA_OIF);
  if (destination?.length !== 4 || device?.length !== 4 || readU32(device, 0) !== index) return undefined;
  return { address: destination.readUInt32BE(0), prefix: message[1] ?? 0 };
}
