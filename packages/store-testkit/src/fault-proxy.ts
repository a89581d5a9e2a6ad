import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Faults } from "./faults.ts";
import { freePort } from "./free-port.ts";

export interface FaultProxyOptions {
  readonly target: { readonly host: string; readonly port: number };
  /** Where to listen; default 127.0.0.1 and a free port. */
  readonly host?: string;
  readonly port?: number;
}

/** A TCP proxy in front of one server, with faults to switch on. It starts by passing everything. */
export interface FaultProxy extends Faults {
  readonly host: string;
  readonly port: number;
  /** Client connections that are open now. */
  readonly connections: number;
}

/** Starts a proxy. Resolves when it listens. */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const host = options.host ?? "127.0.0.1";
  const proxy = new TcpFaultProxy(options.target, host, options.port ?? (await freePort(host)));
  await proxy.listen();
  return proxy;
}

/**
 * An answer counts as complete, and as swallowed, when the server has sent nothing more for this long. A server that
 * acknowledges a request at once may need a while to carry it out.
 */
const quietMs = 1_000;
/** What waits in one direction before the sender is held back. */
const bufferBytes = 1_048_576;

class TcpFaultProxy implements FaultProxy {
  readonly host: string;
  readonly port: number;
  readonly target: FaultProxyOptions["target"];
  /** Settles when data may flow; undefined while it may. */
  gate: PromiseWithResolvers<void> | undefined;
  delayMs = 0;
  swallows = 0;
  readonly #open = new Set<Connection>();
  #server: Server | undefined;
  #disposed = false;

  constructor(target: FaultProxyOptions["target"], host: string, port: number) {
    this.target = target;
    this.host = host;
    this.port = port;
  }

  get connections(): number {
    return this.#open.size;
  }

  async listen(): Promise<void> {
    if (this.#server !== undefined || this.#disposed) return;
    this.#server = createServer({ allowHalfOpen: true }, (client) => {
      const connection = new Connection(this, client);
      this.#open.add(connection);
      client.once("close", () => this.#open.delete(connection));
    });
    this.#server.listen(this.port, this.host);
    await once(this.#server, "listening");
  }

  async pass(): Promise<void> {
    this.delayMs = 0;
    this.swallows = 0;
    await this.listen();
    this.#openGate();
  }

  cut(): void {
    for (const connection of [...this.#open]) connection.break();
  }

  refuse(): void {
    this.#server?.close();
    this.#server = undefined;
    this.cut();
    this.#openGate();
  }

  async blackhole(): Promise<void> {
    this.gate ??= Promise.withResolvers();
    await this.listen();
  }

  swallow(count = 1): void {
    this.swallows += count;
  }

  delay(ms: number): void {
    this.delayMs = ms;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.refuse();
  }

  #openGate(): void {
    this.gate?.resolve();
    this.gate = undefined;
  }
}

/** One client's connection and its counterpart to the server. */
class Connection {
  readonly #proxy: TcpFaultProxy;
  readonly #client: Socket;
  #server: Socket | undefined;
  #broken = false;
  #swallowing = false;
  #quiet: NodeJS.Timeout | undefined;

  constructor(proxy: TcpFaultProxy, client: Socket) {
    this.#proxy = proxy;
    this.#client = client;
    client.setNoDelay(true);
    client.on("error", () => {});
    void this.#connect();
  }

  /** Resets both sides. */
  break(): void {
    this.#broken = true;
    clearTimeout(this.#quiet);
    for (const socket of [this.#client, this.#server]) socket?.resetAndDestroy();
  }

  async #connect(): Promise<void> {
    await this.#proxy.gate?.promise;
    if (this.#broken) return;
    const server = connect({ ...this.#proxy.target, noDelay: true, allowHalfOpen: true });
    this.#server = server;
    server.on("error", () => this.break());
    this.#forward(this.#client, server, (chunk) => this.#request(server, chunk));
    this.#forward(server, this.#client, (chunk) => this.#answer(chunk));
  }

  /** Hands what `from` sends to `pass`, in order, when the faults let it through. */
  #forward(from: Socket, to: Socket, pass: (chunk: Buffer) => Promise<void>): void {
    let waiting = 0;
    let turn = Promise.resolve();
    const next = (due: number, step: () => unknown) => {
      turn = turn.then(async () => {
        const left = due - performance.now();
        if (left > 0) await sleep(left);
        await this.#proxy.gate?.promise;
        if (!this.#broken) await step();
      });
    };
    from.on("data", (chunk: Buffer) => {
      waiting += chunk.length;
      if (waiting > bufferBytes) from.pause();
      next(this.#due(from), async () => {
        await pass(chunk);
        waiting -= chunk.length;
        if (waiting <= bufferBytes && from.isPaused()) from.resume();
      });
    });
    from.once("end", () => next(this.#due(from), () => to.end()));
    from.once("close", () => next(0, () => to.destroySoon()));
  }

  #due(from: Socket): number {
    return from === this.#server ? performance.now() + this.#proxy.delayMs : 0;
  }

  async #request(server: Socket, chunk: Buffer): Promise<void> {
    if (!this.#swallowing && this.#proxy.swallows > 0) {
      this.#swallowing = true;
      this.#proxy.swallows -= 1;
    }
    await write(server, chunk);
  }

  async #answer(chunk: Buffer): Promise<void> {
    if (!this.#swallowing) return write(this.#client, chunk);
    // Some protocols answer in several pieces (HTTP/2 acknowledges before it answers): the last one counts.
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.break(), quietMs);
  }
}

/** Resolves when the chunk has left, or cannot any more. */
function write(socket: Socket, chunk: Buffer): Promise<void> {
  return new Promise((resolve) => socket.write(chunk, () => resolve()));
}
