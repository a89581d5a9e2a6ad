import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";

/** A TCP proxy that can end a connection after an exact number of bytes from the server. */
export interface TruncatingProxy extends AsyncDisposable {
  readonly port: number;
  /**
   * Breaks all connections, lets `whole` new ones be, and breaks the one after them when `bytes` bytes of
   * answers have passed.
   */
  breakTwice(whole: number, bytes: number): void;
}

export async function startTruncatingProxy(target: { readonly port: number }): Promise<TruncatingProxy> {
  const open = new Set<Socket>();
  const budgets: number[] = [];
  const proxy = createServer((client) => {
    const upstream = connect(target.port, "127.0.0.1");
    let left = budgets.shift() ?? Number.POSITIVE_INFINITY;
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(socket);
        other.destroy();
      });
    }
    client.on("data", (chunk) => upstream.write(chunk));
    upstream.on("data", (chunk: Buffer) => {
      client.write(chunk.subarray(0, left));
      left -= chunk.length;
      if (left <= 0) client.destroySoon();
    });
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  return {
    port: (proxy.address() as AddressInfo).port,
    breakTwice(whole, bytes) {
      budgets.push(...Array.from({ length: whole }, () => Number.POSITIVE_INFINITY), bytes);
      for (const socket of open) socket.destroy();
    },
    async [Symbol.asyncDispose]() {
      proxy.close();
      for (const socket of open) socket.destroy();
    },
  };
}
