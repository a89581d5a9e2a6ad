import { join } from "node:path";
import { formatAddress, parseAddress, parseCidr } from "@cocoon-net/core";
import {
  DhcpServer,
  type DhcpSocket,
  type Endpoint,
  LeaseEngine,
  LeasesFile,
  loadLeases,
} from "@cocoon-net/dhcp";
import { expect, it, onTestFinished } from "vitest";
import { macOf, optionsWithPool, wire } from "./client-messages.ts";
import { RecordedNetwork } from "./loopback-server.ts";
import { scratchDirectory, until } from "./scratch-directory.ts";

const from: Endpoint = { address: "10.0.0.1", port: 68 };
const mostAtATime = 8192;

/** Hands over what a test says, and counts what the server sends. */
class CountingSocket implements DhcpSocket {
  sent = 0;
  receive: (packet: Uint8Array, from: Endpoint) => void = () => undefined;
  send(): void {
    this.sent++;
  }
  onPacket(listener: (packet: Uint8Array, from: Endpoint) => void): void {
    this.receive = listener;
  }
  close(): void {
    this.receive = () => undefined;
  }
}

it("more clients at once than can be served get silence, and their answer when they ask again", async () => {
  const directory = await scratchDirectory();
  const leasesFilePath = join(directory, "leases.json");
  const journalPath = join(directory, "journal");
  const { journal, state } = await loadLeases({ journalPath, leasesFilePath, now: Date.now() });
  const first = parseAddress("10.0.0.2");
  const pool = Array.from({ length: mostAtATime + 10 }, (_, index) => first + index);
  const engine = new LeaseEngine(optionsWithPool(0, { subnet: parseCidr("10.0.0.0/16"), pool }), state);
  const socket = new CountingSocket();
  const leasesFile = new LeasesFile(leasesFilePath);
  const server = new DhcpServer({ engine, journal, leasesFile, socket, network: new RecordedNetwork() });
  onTestFinished(() => server[Symbol.asyncDispose]());
  await server.start();

  // So long that the records of all do not fit one frame of the journal.
  const hostname = "g".repeat(100);
  const renew = (index: number): void => {
    const ciaddr = formatAddress(first + index);
    socket.receive(wire({ type: "request", mac: macOf(index), ciaddr, hostname }), from);
  };
  for (const index of pool.keys()) renew(index);
  expect(server.stats().dropped).toEqual({ "server-busy": 10 });
  await until(() => socket.sent === mostAtATime, `${mostAtATime} answers`);
  for (let index = mostAtATime; index < pool.length; index++) renew(index);
  await until(() => socket.sent === pool.length, "the other answers");
  expect(server.stats()).toMatchObject({
    grants: { ok: pool.length, failed: 0 },
    sent: { ack: pool.length },
  });
  expect(journal.stats.syncs).toBeLessThan(8);
  await server[Symbol.asyncDispose]();
  const again = await loadLeases({ journalPath, leasesFilePath, now: Date.now() });
  onTestFinished(() => again.journal[Symbol.asyncDispose]());
  expect(again.state.records).toHaveLength(pool.length);
});
