/**
 * `createServer` of node:http, not by an import: that reads each name that the module has, and reading `WebSocket` loads
 * the whole of undici, 5 MB and more.
 */
export const createServer: typeof import("node:http").createServer =
  process.getBuiltinModule("node:http").createServer;
