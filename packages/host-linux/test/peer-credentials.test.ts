import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { peerOf } from "../src/peer-credentials.ts";

it("the kernel says who is at the other end of a Unix socket, and nothing of another one", async () => {
  const directory = await mkdtemp(join(tmpdir(), "peer-"));
  try {
    for (const listen of [{ path: join(directory, "s") }, { host: "127.0.0.1", port: 0 }]) {
      const server = createServer();
      server.listen(listen);
      await once(server, "listening");
      const address = server.address();
      const client =
        typeof address === "object" && address !== null
          ? connect(address.port, "127.0.0.1")
          : connect({ path: join(directory, "s") });
      const [accepted] = (await once(server, "connection")) as [Socket];
      const peer = peerOf(accepted);
      if ("path" in listen) {
        expect(peer).toEqual({ pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
      } else expect(peer).toBeUndefined();
      client.destroy();
      accepted.destroy();
      server.close();
      await once(server, "close");
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});
