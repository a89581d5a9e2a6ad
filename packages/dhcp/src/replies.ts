import type { LeaseEngine } from "./engine.ts";
import type { OrderedNetwork } from "./ordered-network.ts";
import type { DhcpPacket } from "./packet.ts";
import type { DhcpSocket, Endpoint } from "./ports.ts";
import { type Answer, broadcastTo, buildReply } from "./reply.ts";
import type { DhcpRequest } from "./request.ts";

/** A message of a client. */
export interface Received {
  readonly packet: DhcpPacket;
  readonly request: DhcpRequest;
  /** When it arrived. */
  readonly at: number;
}

/** What clients are told, or not, and how often. */
export class Replies {
  readonly #engine: LeaseEngine;
  readonly #socket: DhcpSocket;
  readonly #network: OrderedNetwork;
  readonly #sent = new Map<string, number>();
  readonly #dropped = new Map<string, number>();

  constructor(engine: LeaseEngine, socket: DhcpSocket, network: OrderedNetwork) {
    this.#engine = engine;
    this.#socket = socket;
    this.#network = network;
  }

  /** Answers, by type. */
  get sent(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#sent);
  }

  /** Messages without an answer, by reason. */
  get dropped(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#dropped);
  }

  /** Undefined when the reply has left already. */
  send({ packet, request }: Received, answer: Answer): Promise<void> | undefined {
    const reply = buildReply(packet, answer, this.#engine.parametersFor(request));
    count(this.#sent, answer.type);
    if (reply.neighbour === undefined) return this.#send(reply.bytes, reply.to);
    return this.#network.setNeighbour(reply.neighbour, request.mac).then(
      () => this.#send(reply.bytes, reply.to),
      () => this.#send(reply.bytes, broadcastTo), // every client hears a broadcast
    );
  }

  #send(bytes: Uint8Array, to: Endpoint): Promise<void> | undefined {
    try {
      return this.#socket.send(bytes, to)?.catch(() => this.drop("send-failed"));
    } catch {
      return this.drop("send-failed");
    }
  }

  drop(reason: string): undefined {
    count(this.#dropped, reason);
  }
}

/** Counts one more. */
export function count(counters: Map<string, number>, name: string): void {
  counters.set(name, (counters.get(name) ?? 0) + 1);
}
