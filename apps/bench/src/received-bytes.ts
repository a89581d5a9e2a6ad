import { subscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";

/** Every TCP connection that this process opens from the first call of {@link countReceivedBytes} on. */
const sockets = new Set<Socket>();
let closed = 0;
let counting = false;

/** Starts to count what arrives on the sockets of this process, whatever library opens them. */
export function countReceivedBytes(): () => number {
  if (!counting) {
    counting = true;
    subscribe("net.client.socket", (message) => {
      const { socket } = message as { readonly socket: Socket };
      sockets.add(socket);
      socket.once("close", () => {
        closed += socket.bytesRead;
        sockets.delete(socket);
      });
    });
  }
  return () => [...sockets].reduce((sum, socket) => sum + socket.bytesRead, closed);
}
