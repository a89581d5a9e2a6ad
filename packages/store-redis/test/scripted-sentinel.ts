import { once } from "node:events";
import { createServer, type Socket } from "node:net";

/** Speaks as much of a sentinel's language as a client asks, and holds its answers back on demand. */
export interface ScriptedSentinel extends AsyncDisposable {
  readonly port: number;
  /** How often it was asked for the primary. */
  readonly asked: number;
  /** While held, it does not say who the primary is. */
  hold(): void;
  release(): void;
  /** Tells all who listen that there is a new primary. */
  announce(): void;
}

export async function startScriptedSentinel(primary: { readonly port: number }): Promise<ScriptedSentinel> {
  const sockets = new Set<Socket>();
  const listening = new Set<Socket>();
  let gate: PromiseWithResolvers<void> | undefined;
  let asked = 0;
  const bulk = (...items: string[]) =>
    `*${items.length}\r\n${items.map((item) => `$${item.length}\r\n${item}\r\n`).join("")}`;
  const answer = async (socket: Socket, request: string): Promise<void> => {
    if (/subscribe/i.test(request)) {
      listening.add(socket);
      socket.write("*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n");
    } else if (request.includes("get-master-addr-by-name")) {
      asked += 1;
      await gate?.promise;
      socket.write(bulk("127.0.0.1", String(primary.port)));
    } else if (request.includes("sentinels")) socket.write("*0\r\n");
    else socket.write("+OK\r\n");
  };
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (data) => {
      for (const [request] of String(data).matchAll(/\*\d+\r\n(?:\$\d+\r\n[^\r]*\r\n)+/g)) {
        void answer(socket, request);
      }
    });
    socket.on("close", () => {
      sockets.delete(socket);
      listening.delete(socket);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("the sentinel has no address");
  return {
    port: address.port,
    get asked() {
      return asked;
    },
    hold: () => {
      gate = Promise.withResolvers();
    },
    release: () => {
      gate?.resolve();
      gate = undefined;
    },
    announce: () => {
      for (const socket of listening) socket.write(bulk("message", "+switch-master", "m"));
    },
    [Symbol.asyncDispose]: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
