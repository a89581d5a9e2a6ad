import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  type AddressProbe,
  type DhcpPacket,
  DhcpServer,
  type DhcpSocket,
  decodePacket,
  type Endpoint,
  type EngineOptions,
  type FloodGuard,
  formatMac,
  LeaseEngine,
  type LeaseNetwork,
  LeasesFile,
  loadLeases,
  type ServerEvent,
} from "@cocoon-net/dhcp";
import { onTestFinished } from "vitest";
import { optionsWithPool } from "./client-messages.ts";
import { until } from "./scratch-directory.ts";

/** A reply as it arrived, and where the server wanted to send it. */
export interface Reply {
  readonly type: "offer" | "ack" | "nak";
  readonly ip: string;
  readonly packet: DhcpPacket;
  readonly mac: string;
  readonly to: string;
}

const typeNames = new Map([
  [2, "offer"],
  [5, "ack"],
  [6, "nak"],
] as const);

/** A server on a UDP port of the loopback interface. What it sends to any client comes to `guest`. */
class LoopbackSocket implements DhcpSocket {
  readonly #socket: Socket;
  readonly #clientPort: number;
  readonly sentTo: Endpoint[] = [];

  constructor(socket: Socket, clientPort: number) {
    this.#socket = socket;
    this.#clientPort = clientPort;
  }

  send(packet: Uint8Array, to: Endpoint): Promise<void> {
    this.sentTo.push(to);
    return new Promise((resolve, reject) => {
      this.#socket.send(packet, this.#clientPort, "127.0.0.1", (error) =>
        error ? reject(error) : resolve(),
      );
    });
  }

  onPacket(listener: (packet: Uint8Array, from: Endpoint) => void): void {
    this.#socket.on("message", (message, { address, port }) => listener(message, { address, port }));
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#socket.close(() => resolve()));
  }
}

/** Keeps the routes in a set; tests make it slow or broken. */
export class RecordedNetwork implements LeaseNetwork {
  readonly routes = new Set<string>();
  readonly neighbours = new Map<string, string>();
  addRoute = (ip: string): Promise<void> => {
    this.routes.add(ip);
    return Promise.resolve();
  };
  removeRoute = (ip: string): Promise<void> => {
    this.routes.delete(ip);
    return Promise.resolve();
  };
  setNeighbour = (ip: string, mac: string): Promise<void> => {
    this.neighbours.set(ip, mac);
    return Promise.resolve();
  };
}

export class Running {
  readonly server: DhcpServer;
  readonly engine: LeaseEngine;
  readonly network: RecordedNetwork;
  readonly events: ServerEvent[];
  readonly replies: Reply[] = [];
  readonly leasesPath: string;
  readonly #guest: Socket;
  readonly #port: number;

  constructor(parts: {
    server: DhcpServer;
    engine: LeaseEngine;
    network: RecordedNetwork;
    events: ServerEvent[];
    leasesPath: string;
    guest: Socket;
    port: number;
    socket: LoopbackSocket;
  }) {
    this.server = parts.server;
    this.engine = parts.engine;
    this.network = parts.network;
    this.events = parts.events;
    this.leasesPath = parts.leasesPath;
    this.#guest = parts.guest;
    this.#port = parts.port;
    this.#guest.on("message", (message) => {
      const decoded = decodePacket(message);
      if (!decoded.ok) throw new Error(`the server sent nonsense: ${decoded.reason}`);
      const { packet } = decoded;
      const type = typeNames.get((packet.options.get(53)?.[0] ?? 0) as 2 | 5 | 6);
      if (type === undefined) throw new Error("the server sent no offer, ack or nak");
      const to = parts.socket.sentTo.shift();
      this.replies.push({
        type,
        ip: [24, 16, 8, 0].map((shift) => (packet.yiaddr >>> shift) & 255).join("."),
        packet,
        mac: formatMac(packet.chaddr),
        to: `${to?.address}:${to?.port}`,
      });
    });
  }

  send(packet: Uint8Array): void {
    this.#guest.send(packet, this.#port, "127.0.0.1");
  }

  /** Sends and waits for the next reply. */
  async ask(packet: Uint8Array): Promise<Reply> {
    const before = this.replies.length;
    this.send(packet);
    await until(() => this.replies.length > before, "a reply");
    const reply = this.replies[before];
    if (reply === undefined) throw new Error("no reply");
    return reply;
  }

  happened(type: ServerEvent["type"]): ServerEvent[] {
    return this.events.filter((event) => event.type === type);
  }

  /** Waits until this many packets were answered by silence for that reason. */
  dropped(reason: string, count = 1): Promise<void> {
    return until(() => (this.server.stats().dropped[reason] ?? 0) >= count, `${count} × ${reason}`);
  }
}

export interface StartOptions {
  readonly engine?: EngineOptions;
  readonly clock?: { now(): number };
  readonly network?: RecordedNetwork;
  /** Starts it in this state directory, as after a restart. */
  readonly directory: string;
  readonly networkTimeoutMs?: number;
  readonly guard?: FloodGuard;
  readonly probe?: AddressProbe;
}

export async function startServer(options: StartOptions): Promise<Running> {
  const { directory } = options;
  await mkdir(directory, { recursive: true });
  const leasesPath = join(directory, "leases.json");
  const now = (options.clock ?? Date).now();
  const { journal, state } = await loadLeases({
    journalPath: join(directory, "journal"),
    leasesFilePath: leasesPath,
    now,
  });
  const guest = createSocket("udp4").bind(0, "127.0.0.1");
  const socket = createSocket("udp4").bind(0, "127.0.0.1");
  await Promise.all([once(guest, "listening"), once(socket, "listening")]);
  const loopback = new LoopbackSocket(socket, guest.address().port);
  const engine = new LeaseEngine(options.engine ?? optionsWithPool(250), state);
  const network = options.network ?? new RecordedNetwork();
  const events: ServerEvent[] = [];
  const server = new DhcpServer({
    engine,
    journal,
    leasesFile: new LeasesFile(leasesPath),
    socket: loopback,
    network,
    onEvent: (event) => events.push(event),
    ...(options.clock && { clock: options.clock }),
    ...(options.guard && { guard: options.guard }),
    ...(options.probe && { probe: options.probe }),
    // A test that holds a route back decides itself how long.
    networkTimeoutMs: options.networkTimeoutMs ?? 60_000,
  });
  onTestFinished(async () => {
    await server[Symbol.asyncDispose]();
    guest.close();
  });
  const port = socket.address().port;
  const running = new Running({ server, engine, network, events, leasesPath, guest, port, socket: loopback });
  await server.start();
  return running;
}
