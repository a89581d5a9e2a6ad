import { createSocket } from "node:dgram";
import { once } from "node:events";
import { formatAddress } from "@cocoon-net/core";
import { type DhcpPacket, decodePacket, encodePacket, noFile, noSname } from "@cocoon-net/dhcp";

// Boots COUNT guests at once behind one NIC, for at most SECONDS, each with a MAC of its own, as a DHCP client does:
// DISCOVER, OFFER, REQUEST, ACK, and again after a pause what got no answer. Prints the addresses, one a line.

const [count = 0, seconds = 0] = process.argv.slice(2).map(Number);
const socket = createSocket({ type: "udp4", reuseAddr: true });
socket.bind(68);
await once(socket, "listening");
socket.setBroadcast(true);

interface Client {
  readonly chaddr: Uint8Array;
  request: ReadonlyMap<number, Uint8Array>;
  address: string | undefined;
}

const clients = new Map<number, Client>();
for (let number = 1; number <= count; number++) {
  const chaddr = new Uint8Array(16);
  chaddr.set([0x52, 0x54, 1, 0, number >> 8, number & 255]);
  clients.set(number, { chaddr, request: new Map([[53, Uint8Array.of(1)]]), address: undefined });
}

function ask(xid: number, { chaddr, request }: Client): void {
  const bytes = encodePacket({
    ...{ op: 1, htype: 1, hlen: 6, hops: 0, xid, secs: 0, flags: 0x8000 },
    ...{ ciaddr: 0, yiaddr: 0, siaddr: 0, giaddr: 0, chaddr, sname: noSname, file: noFile },
    options: request,
  });
  socket.send(bytes, 67, "255.255.255.255");
}

function answered(client: Client, { xid, yiaddr, options }: DhcpPacket): void {
  const type = options.get(53)?.[0];
  if (type === 2) {
    const requested = Uint8Array.of(yiaddr >>> 24, (yiaddr >>> 16) & 255, (yiaddr >>> 8) & 255, yiaddr & 255);
    client.request = new Map([
      [53, Uint8Array.of(3)],
      [50, requested],
      [54, options.get(54) ?? new Uint8Array(4)],
    ]);
    ask(xid, client);
  } else if (type === 5) client.address = formatAddress(yiaddr);
  else if (type === 6) client.request = new Map([[53, Uint8Array.of(1)]]);
}

socket.on("message", (bytes) => {
  const decoded = decodePacket(bytes);
  const client = decoded.ok ? clients.get(decoded.packet.xid) : undefined;
  if (decoded.ok && client && client.address === undefined) answered(client, decoded.packet);
});

const end = performance.now() + seconds * 1_000;
const waiting = () => [...clients].filter(([, { address }]) => address === undefined);
for (let next = 0; performance.now() < end && waiting().length > 0; ) {
  if (performance.now() >= next) {
    next = performance.now() + 2_000;
    for (const [xid, client] of waiting()) ask(xid, client);
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
}
for (const { address } of clients.values()) if (address !== undefined) console.log(address);
socket.close();
