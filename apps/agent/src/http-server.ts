import type { RequestListener, Server } from "node:http";

/** What a connection may take, from its opening to the end of the answer. */
const connectionMs = 30_000;

/**
 * A server that answers one request on each connection and lets none of them stay for longer; node:http would look for
 * slow ones every 30 s, also when there is none.
 *
 * Not by an import of node:http: that reads each name that the module has, and reading `WebSocket` loads the whole of
 * undici, 5 MB and more.
 */
export function createServer(listener: RequestListener): Server {
  const options = { connectionsCheckingInterval: 2 ** 31 - 1 };
  const server = process.getBuiltinModule("node:http").createServer(options, listener);
  server.maxRequestsPerSocket = 1;
  server.on("connection", (socket) => {
    const timer = setTimeout(() => socket.destroy(), connectionMs);
    socket.once("close", () => clearTimeout(timer));
  });
  return server;
}
