import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:net";

/** What keeps the ports that this process was given. */
const claims: Server[] = [];

/**
 * A TCP port of `host` that nobody listens on. It lies below Linux's range for outgoing connections, so
 * that it is still free when a server that was stopped comes back to it. Until this process ends nobody else is
 * given it by this function, be it another process: between the choice of a port and the server's start, and while
 * a server is stopped, it belongs to nobody as the kernel sees it.
 */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const port = randomInt(20_000, 32_768);
    if (!(await claim(port))) continue;
    const probe = await listening({ port, host });
    if (probe === undefined) continue;
    probe.close();
    await once(probe, "close");
    return port;
  }
  throw new Error(`no free TCP port on ${host} between 20000 and 32767`);
}

/**
 * By a Unix socket in Linux's abstract namespace, which is of the network namespace, as ports are, and which the
 * kernel takes back with the process. Where there is no such thing a port is claimed by luck alone.
 */
async function claim(port: number): Promise<boolean> {
  if (process.platform !== "linux") return true;
  const server = await listening({ path: `\0cocoon-net-port-${port}` });
  if (server === undefined) return false;
  server.unref();
  claims.push(server);
  return true;
}

/** Undefined when somebody else has that address. */
async function listening(
  address: { port: number; host: string } | { path: string },
): Promise<Server | undefined> {
  const server = createServer();
  server.listen(address);
  try {
    await once(server, "listening");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EADDRINUSE") return undefined;
    throw error;
  }
  return server;
}
