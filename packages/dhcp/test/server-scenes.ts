import { copyFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { gateway, wire } from "./client-messages.ts";
import { RecordedNetwork, type Running, startServer } from "./loopback-server.ts";
import { scratchDirectory } from "./scratch-directory.ts";

/** DISCOVER, OFFER, REQUEST, ACK. @returns the address */
export async function dora(running: Running, mac: string): Promise<string> {
  const offer = await running.ask(wire({ type: "discover", mac, broadcast: true }));
  expect(offer.type).toBe("offer");
  const ack = await running.ask(
    wire({ type: "request", mac, requested: offer.ip, server: gateway, broadcast: true }),
  );
  expect([ack.type, ack.ip]).toEqual(["ack", offer.ip]);
  return ack.ip;
}

export const leasesIn = async (running: Running): Promise<string[]> => {
  const entries: { ip: string; mac: string }[] = JSON.parse(await readFile(running.leasesPath, "utf8"));
  return entries.map(({ ip, mac }) => `${ip} ${mac}`);
};

/** A network in which each route waits to be set until `open` is called. */
export function gatedNetwork(): { readonly network: RecordedNetwork; readonly open: () => void } {
  const network = new RecordedNetwork();
  const { promise, resolve } = Promise.withResolvers<void>();
  const add = network.addRoute;
  network.addRoute = (ip) => promise.then(() => add(ip));
  return { network, open: () => resolve() };
}

/** Restarts from a copy of what is on disk at this moment, as after a power cut. */
export async function afterPowerCut(directory: string): Promise<Running> {
  const copy = join(await scratchDirectory(), "copy");
  await mkdir(copy);
  for (const name of ["journal", "leases.json"]) await copyFile(join(directory, name), join(copy, name));
  return startServer({ directory: copy });
}
