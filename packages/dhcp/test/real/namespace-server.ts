/**
 * The server as a process in a network namespace; `lan.ts` runs it. Arguments: directory, device, settings as JSON. It
 * prints the packets that it gets and its events, one JSON a line.
 */
import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { join } from "node:path";
import { promisify } from "node:util";
import { parseAddress, parseCidr } from "@cocoon-net/core";
import {
  DhcpServer,
  type DhcpSocket,
  LeaseEngine,
  type LeaseNetwork,
  LeasesFile,
  loadLeases,
  type OptionSettings,
} from "@cocoon-net/dhcp";
import type { ServerSettings } from "./lan.ts";

const [, , directory = "", device = "", settings = "{}"] = process.argv;
const { poolSize = 3, leaseMs = 86_400_000, renewMs, rebindMs }: ServerSettings = JSON.parse(settings);
const run = promisify(execFile);
const ip = async (...args: string[]): Promise<void> => {
  await run("ip", args);
};

const network: LeaseNetwork = {
  addRoute: (address) => ip("route", "replace", `${address}/32`, "dev", device),
  removeRoute: (address) => ip("route", "del", `${address}/32`, "dev", device).catch(() => undefined),
  setNeighbour: (address, mac) =>
    ip("neigh", "replace", address, "lladdr", mac, "dev", device, "nud", "stale"),
};

const udp = createSocket("udp4");
udp.bind(67);
await once(udp, "listening");
udp.setBroadcast(true);
const socket: DhcpSocket = {
  send: (packet, to) =>
    new Promise((resolve, reject) => {
      udp.send(packet, to.port, to.address, (error) => (error ? reject(error) : resolve()));
    }),
  onPacket: (listener) => {
    udp.on("message", (message, { address, port }) => {
      console.log(JSON.stringify({ type: "packet", hex: message.toString("hex") }));
      listener(message, { address, port });
    });
  },
  close: () => {
    udp.close();
  },
};

const leasesFilePath = join(directory, "leases.json");
const loaded = await loadLeases({ journalPath: join(directory, "journal"), leasesFilePath, now: Date.now() });
const base = parseAddress("10.99.0.2");
const options: OptionSettings = {
  domain: "guests.example",
  ...(renewMs !== undefined && { renewMs }),
  ...(rebindMs !== undefined && { rebindMs }),
};
const engine = new LeaseEngine(
  {
    subnet: parseCidr("10.99.0.0/24"),
    gateway: parseAddress("10.99.0.1"),
    pool: Array.from({ length: poolSize }, (_, index) => base + index),
    dns: [parseAddress("8.8.8.8")],
    placement: "sequential",
    leaseMs,
    options,
  },
  loaded.state,
);
const server = new DhcpServer({
  engine,
  journal: loaded.journal,
  leasesFile: new LeasesFile(leasesFilePath),
  socket,
  network,
  onEvent: (event) => console.log(JSON.stringify(event)),
});
await server.start();
console.log("ready");
