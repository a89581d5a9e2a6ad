import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

/**
 * A TCP port of `host` that nobody listens on. It lies below Linux's range for outgoing connections, so
 * that it is still free when a server that was stopped comes back to it.
 */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const port = randomInt(20_000, 32_768);
    const probe = createServer();
    probe.listen(port, host);
    try {
      await once(probe, "listening");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "EADDRINUSE") continue;
      throw error;
    }
    probe.close();
    await once(probe, "close");
    return port;
  }
  throw new Error(`no free TCP port on ${host} between 20000 and 32767`);
}
