import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

/** What happens at one request: `before`: it does not arrive. `after`: it does, but its answer does not. */
export interface Cut {
  /** Index of the request, from 0. */
  readonly at: number;
  readonly where: "before" | "after";
  readonly onCut: () => void;
}

/** Between the driver and the simulator: counts requests, and cuts the connection at one of them. */
export class CuttingProxy implements AsyncDisposable {
  readonly url: string;
  readonly #server: Server;
  readonly #target: string;
  #cut: Cut | undefined;
  #requests = 0;

  private constructor(server: Server, port: number, target: string) {
    this.#server = server;
    this.#target = target;
    this.url = `http://127.0.0.1:${port}`;
  }

  static async open(target: string): Promise<CuttingProxy> {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const proxy = new CuttingProxy(server, port, target);
    server.on("request", (request, response) => void proxy.#answer(request, response));
    return proxy;
  }

  /** Requests since the last {@link arm}. */
  get requests(): number {
    return this.#requests;
  }

  /** Counts from 0 again. */
  arm(cut?: Cut): void {
    this.#cut = cut;
    this.#requests = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const cut = this.#cut?.at === this.#requests++ ? this.#cut : undefined;
    const end = (): void => {
      cut?.onCut();
      request.socket.destroy();
    };
    if (cut?.where === "before") return end();
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { authorization = "" } = request.headers;
    const answer = await fetch(`${this.#target}${request.url}`, {
      method: request.method ?? "GET",
      headers: { authorization, "content-type": "application/json" },
      body: chunks.length === 0 ? null : Buffer.concat(chunks),
    });
    const body = await answer.text();
    if (cut !== undefined) return end();
    response.writeHead(answer.status, { "content-type": "application/json" }).end(body);
  }
}
