/**
 * A guest that wants every address: DISCOVERs whose chaddr is made up, then DISCOVERs from as many MACs as it says. Arguments:
 * how many of each. Runs in a namespace whose eth0 is up.
 */
import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";

const [, , forged = "0", changed = "0"] = process.argv;
execFileSync("ip", ["route", "replace", "255.255.255.255/32", "dev", "eth0"]);
const socket = createSocket("udp4");
socket.bind(68);
await once(socket, "listening");
socket.setBroadcast(true);

function discover(mac: readonly number[]): Promise<void> {
  const packet = new Uint8Array(300);
  packet.set([1, 1, 6, 0, ...mac.slice(2)]);
  packet.set(mac, 28);
  packet.set([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255], 236);
  return new Promise((resolve) => socket.send(packet, 67, "255.255.255.255", () => resolve()));
}

for (let index = 0; index < Number(forged); index++) {
  await discover([0x52, 0x54, 1, 0, index >> 8, index & 255]);
  if (index % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 10));
}
for (let index = 0; index < Number(changed); index++) {
  const mac = [0x52, 0x54, 2, 0, 0, index];
  const text = mac.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
  execFileSync("ip", ["link", "set", "dev", "eth0", "address", text]);
  await discover(mac);
}
socket.close();
