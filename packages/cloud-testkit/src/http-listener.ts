import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { UnavailableError } from "@cocoon-net/core";

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  /** As it stands in the URL, undecoded. */
  readonly rawQuery: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

export interface ListenAddress {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
}

export interface HttpAnswer {
  readonly httpStatus: number;
  /** A string goes out as it is, anything else as JSON. */
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** `closed`: the connection ends without an answer. `hang`: it stays open without one. */
  readonly lost?: "closed" | "hang";
}

/** @param from the address the connection came from */
export type HttpHandler = (request: HttpRequest, from: string) => HttpAnswer | Promise<HttpAnswer>;

const maxBodyBytes = 1 << 20;

/** An HTTP server on one address. */
export class HttpListener implements AsyncDisposable {
  readonly url: string;
  readonly #server: Server;

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
  }

  /** @throws {UnavailableError} when the address cannot be bound */
  static async open(address: ListenAddress, handler: HttpHandler): Promise<HttpListener> {
    const server = createServer((request, response) => {
      respond(request, response, handler).catch((error: unknown) => {
        response.destroy(error instanceof Error ? error : undefined);
      });
    });
    server.listen({ host: address.host, port: address.port });
    try {
      await once(server, "listening");
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new UnavailableError(`cannot listen on ${address.host}:${address.port}: ${why}`, {
        outcome: "none",
        cause,
        hint: "choose another address or stop the program that uses it",
      });
    }
    const bound = server.address();
    const port = typeof bound === "object" && bound !== null ? bound.port : address.port;
    const host = address.host.includes(":") ? `[${address.host}]` : address.host;
    return new HttpListener(server, `http://${host}:${port}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  handler: HttpHandler,
): Promise<void> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += Buffer.byteLength(chunk);
    if (size > maxBodyBytes) throw new Error("request body too large");
    chunks.push(Buffer.from(chunk));
  }
  const target = request.url ?? "/";
  const mark = target.indexOf("?");
  const answer = await handler(
    {
      method: request.method ?? "GET",
      path: mark < 0 ? target : target.slice(0, mark),
      rawQuery: mark < 0 ? "" : target.slice(mark + 1),
      headers: request.headers,
      body: Buffer.concat(chunks),
    },
    request.socket.remoteAddress ?? "",
  );
  if (answer.lost === "hang") return;
  if (answer.lost === "closed") {
    request.socket.destroy();
    return;
  }
  const text = typeof answer.body === "string";
  const contentType = text ? "text/plain" : "application/json";
  response.writeHead(answer.httpStatus, { "content-type": contentType, ...answer.headers });
  response.end(text ? answer.body : JSON.stringify(answer.body));
}
