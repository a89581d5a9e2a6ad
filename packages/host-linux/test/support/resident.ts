// Runs inside a network namespace and calls what it is told: one JSON request per line on stdin, one answer on stdout.
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { Worker } from "node:worker_threads";
import { CocoonError } from "@cocoon-net/core";
import {
  type Announcement,
  announceByArp,
  applyMoved,
  bringUpLinksByMAC,
  type DhcpSocket,
  deleteLocalRoutes,
  type HostNetwork,
  type HostPlan,
  type MovedPlan,
  openArpProbe,
  openBridgePorts,
  openDhcpSocket,
  openHostNetwork,
  removeDropRules,
  setUpHost,
} from "@cocoon-net/host-linux";

const network: HostNetwork = openHostNetwork();
const sockets: Map<string, DhcpSocket> = new Map();
const packets: { text: string; address: string; port: number }[] = [];
const socketErrors: string[] = [];
let linksBack = 0;

const api = {
  network: async (method: NetworkMethod, ...args: string[]): Promise<unknown> => {
    // The methods differ in their arguments only, all of which are strings.
    const call = network[method].bind(network) as (...args: string[]) => Promise<unknown>;
    return await call(...args);
  },
  addRoutes: async (addresses: string[], device: string): Promise<number> => {
    const start = performance.now();
    const listed = network.listHostRoutes(device);
    await Promise.all(addresses.map((address) => network.replaceHostRoute(address, device)));
    await listed;
    return performance.now() - start;
  },
  /** All in one call. @returns what went wrong */
  replaceHostRoutes: async (addresses: string[], device: string): Promise<Record<string, string>> => {
    const failures = await network.replaceHostRoutes(addresses, device);
    return Object.fromEntries(
      [...failures].map(([ip, error]) => [ip, error instanceof Error ? error.message : ""]),
    );
  },
  ensureBridge: (name: string, mac: string) => network.ensureBridge(name, { mac }),
  getLink: (name: string) => network.getLink({ name }),
  disposeWhileBusy: async (): Promise<string> => {
    const own = openHostNetwork();
    const listing = own.listLinks().then(
      () => "listed",
      (error: unknown) => (error instanceof CocoonError ? error.code : String(error)),
    );
    await own[Symbol.asyncDispose]();
    await own[Symbol.asyncDispose]();
    return await listing;
  },
  abortedCall: async (): Promise<string> => {
    const signal = AbortSignal.abort();
    return await network.replaceHostRoute("10.0.0.1", "lo", { signal }).then(
      () => "added",
      (error: unknown) => (error instanceof Error ? error.name : String(error)),
    );
  },
  setUpHost: (plan: HostPlan, iptables: string) => setUpHost(plan, { network, iptables }),
  /** Those of exactly these destinations. */
  deleteLocalRoutes: (device: string, destinations: string[]) =>
    deleteLocalRoutes(device, ({ dst }) => destinations.includes(dst), { network }),
  applyMoved: (plan: MovedPlan) => applyMoved(plan, { network }),
  announce: async (announcements: Announcement[]): Promise<void> => announceByArp(announcements),
  removeDropRules: (iptables: string) => removeDropRules({ iptables }),
  bringUpLinksByMAC: (macs: string[], timeoutMs: number) => bringUpLinksByMAC(macs, { timeoutMs, network }),
  openSocket: async (device: string, port: number): Promise<void> => {
    const onError = (error: Error): unknown => socketErrors.push(error.message);
    const onLinkBack = (): void => {
      linksBack++;
    };
    const socket = await openDhcpSocket({ device, port, onError, onLinkBack });
    socket.onPacket((packet, from) => {
      packets.push({ text: Buffer.from(packet).toString(), address: from.address, port: from.port });
    });
    sockets.set(device, socket);
  },
  openSocketInWorker: async (device: string, port: number): Promise<void> => {
    const worker = new Worker(new URL("./worker-socket.ts", import.meta.url), {
      workerData: { device, port },
    });
    await once(worker, "message");
    worker.on("message", () => {
      linksBack++;
    });
  },
  send: async (device: string, text: string, address: string, port: number): Promise<void> => {
    sockets.get(device)?.send(Buffer.from(text), { address, port });
  },
  sendAll: async (device: string, texts: string[], address: string, port: number): Promise<void> => {
    for (const text of texts) sockets.get(device)?.send(Buffer.from(text), { address, port });
  },
  linksBack: async () => linksBack,
  packets: async () => packets,
  /** What each address answers, asked at once, and how long that took. */
  probe: async (device: string, ips: string[]): Promise<{ users: (string | null)[]; ms: number }> => {
    await using probe = openArpProbe({ device });
    const start = performance.now();
    const users = await Promise.all(ips.map(async (ip) => (await probe.probe(ip)) ?? null));
    return { users, ms: performance.now() - start };
  },
  portsOf: async (device: string, macs: string[]): Promise<(string | null)[]> => {
    await using ports = openBridgePorts(device);
    return macs.map((mac) => ports.portOf(mac) ?? null);
  },
  socketErrors: async () => socketErrors,
  /** Lets nothing else of this process run for so long. */
  sleep: async (ms: number): Promise<unknown> =>
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms),
  signalListeners: async (): Promise<number> => process.listenerCount("SIGURG"),
  closeSocket: async (device: string): Promise<void> => {
    const socket = sockets.get(device);
    await Promise.all([socket?.close(), socket?.close()]);
  },
  descriptorsAfterCycles: async (
    device: string,
    cycles: number,
  ): Promise<{ before: number; after: number }> => {
    const count = (): number => readdirSync("/proc/self/fd").length;
    const cycle = async (): Promise<void> => {
      await using own = openHostNetwork();
      await own.listLinks();
      await using socket = await openDhcpSocket({ device, port: 67 });
      socket.onPacket(() => undefined);
      await openDhcpSocket({ device, port: 67 }).then(
        () => Promise.reject(new Error("two sockets on one port")),
        () => undefined,
      );
    };
    await cycle();
    const before = count();
    for (let i = 0; i < cycles; i++) await cycle();
    return { before, after: count() };
  },
  becomeNobody: async (): Promise<void> => process.setuid?.(65_534),
};

export type Api = typeof api;
export type NetworkMethod =
  | "setLinkUp"
  | "setLinkDown"
  | "deleteLink"
  | "listAddresses"
  | "ensureAddress"
  | "deleteAddress"
  | "replaceHostRoute"
  | "deleteHostRoute"
  | "listHostRoutes"
  | "replaceNeighbour"
  | "deleteNeighbour";

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, args } = JSON.parse(line) as { id: number; method: keyof Api; args: unknown[] };
  const call = api[method] as (...args: unknown[]) => Promise<unknown>;
  call(...args).then(
    (result) => answer({ id, result }),
    (error: unknown) => answer({ id, error: describe(error) }),
  );
}
await Promise.all([...sockets.values()].map((socket) => socket.close()));
await network[Symbol.asyncDispose]();
// Whatever a failed test has left under way must not outlive it.
process.exit();

function answer(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function describe(error: unknown): { code: string; message: string; hint: string | undefined } {
  if (error instanceof CocoonError) return { code: error.code, message: error.message, hint: error.hint };
  return {
    code: "unexpected",
    message: error instanceof Error ? (error.stack ?? "") : String(error),
    hint: undefined,
  };
}
