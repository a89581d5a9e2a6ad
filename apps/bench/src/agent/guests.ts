// Runs in the guests' namespace: `first` asks for an address until somebody offers one, `boot N` boots N guests.
import { createSocket } from "node:dgram";

const socket = createSocket("udp4");
const cookie = [99, 130, 83, 99];
const everyMs = 20;
const again = 100;

function message(type: 1 | 3, guest: number, more: readonly number[] = []): Buffer {
  const packet = Buffer.alloc(300);
  packet.set([1, 1, 6, 0]);
  packet.writeUInt32BE(guest, 4);
  packet.writeUInt16BE(0x8000, 10);
  packet.set([0x52, 0x54, 0, 0, guest >> 8, guest & 255], 28);
  packet.set([...cookie, 53, 1, type, ...more, 255], 236);
  return packet;
}

/** Option 53 of an answer to one of ours. */
function typeOf(packet: Buffer): number | undefined {
  for (let at = 240; at < packet.length && packet[at] !== 255; at += 2 + (packet[at + 1] ?? 0)) {
    if (packet[at] === 53) return packet[at + 2];
  }
  return undefined;
}

function send(packet: Buffer): void {
  socket.send(packet, 67, "255.255.255.255", () => undefined);
}

function first(): void {
  // Some guests in turn: none of them asks so often that a guard is in the way.
  let turn = 0;
  const timer = setInterval(() => send(message(1, 1_000 + (turn++ % 8))), everyMs);
  socket.on("message", (packet) => {
    if (typeOf(packet) !== 2) return;
    clearInterval(timer);
    console.log(`offer ${Date.now()}`);
    socket.close();
  });
}

function boot(count: number): void {
  const waiting = new Set(Array.from({ length: count }, (_, index) => index + 1));
  const ask = (): void => {
    for (const guest of [...waiting].slice(0, 20)) send(message(1, guest));
  };
  const timer = setInterval(ask, again);
  socket.on("message", (packet) => {
    const guest = packet.readUInt32BE(4);
    const address = [...packet.subarray(16, 20)];
    if (typeOf(packet) === 2) send(message(3, guest, [50, 4, ...address, 54, 4, ...packet.subarray(20, 24)]));
    if (typeOf(packet) === 5) waiting.delete(guest);
    if (waiting.size > 0) return;
    clearInterval(timer);
    console.log("booted");
    socket.close();
  });
}

socket.bind(68, () => {
  socket.setBroadcast(true);
  console.log("ready");
  const [what, count] = process.argv.slice(2);
  if (what === "boot") boot(Number(count));
  else first();
});
