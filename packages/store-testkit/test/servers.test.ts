import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { NotFoundError, UnavailableError } from "@cocoon-net/core";
import { startEtcd, startRedis, type TestServer, until, within } from "@cocoon-net/store-testkit";
import { describe, it } from "vitest";

/** How each server is asked whether it answers, and how something is put into it and read back. */
const servers: Readonly<
  Record<
    string,
    {
      start(): Promise<TestServer>;
      put(server: TestServer): Promise<void>;
      has(server: TestServer): Promise<boolean>;
    }
  >
> = {
  etcd: {
    start: () => startEtcd(),
    put: async (server) => {
      await etcd(server, "put", { key: base64("k"), value: base64("v") });
    },
    has: async (server) => (await etcd(server, "range", { key: base64("k") })).includes(base64("v")),
  },
  redis: {
    start: () => startRedis({ appendonly: true, appendfsync: "always", extraArgs: ["--maxmemory", "64mb"] }),
    put: async (server) => {
      assert.match(await redis(server, "SET k v"), /^\+OK/);
    },
    has: async (server) => (await redis(server, "GET k")).includes("v"),
  },
};

describe.concurrent.each(Object.entries(servers))("the launcher of %s", (_name, { start, put, has }) => {
  it("starts, restarts on its data, and leaves nothing behind", async () => {
    const server = await start();
    await using _ = server;
    const { pid } = server;
    assert.ok(pid !== undefined && isRunning(pid));
    await put(server);
    await server.restart("SIGKILL");
    assert.notEqual(server.pid, pid);
    assert.ok(await has(server), "what was acknowledged survives a SIGKILL");
    await server.stop();
    assert.equal(server.pid, undefined);
    await assert.rejects(has(server), "a stopped server does not answer");
    await server.start();
    assert.ok(await has(server));
    const last = server.pid ?? 0;
    await server[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    assert.equal(isRunning(last), false);
    assert.equal(existsSync(server.dataDir), false);
  });

  it("answers nothing while paused, and stops from there too", async () => {
    await using server = await start();
    await put(server);
    server.pause();
    await assert.rejects(within("an answer", 300, has(server)), /not within 300 ms/);
    server.resume();
    await until("an answer", 15_000, () => has(server));
    server.pause();
    await within("the end", 9_000, server.stop());
    assert.equal(server.pid, undefined);
  });
});

describe.concurrent("launchers", () => {
  it("say in one line what to install", async () => {
    await assert.rejects(startEtcd({ binary: "no-such-etcd" }), (error) => {
      assert.ok(error instanceof NotFoundError);
      assert.match(error.message, /^no-such-etcd is not installed: apt-get install etcd-server/);
      return true;
    });
    await assert.rejects(startRedis({ binary: "/nowhere/redis-server" }), /apt-get install redis-server/);
  });

  it("say in one line why a server did not start", async () => {
    await assert.rejects(startRedis({ extraArgs: ["--no-such-option", "1"] }), (error) => {
      assert.ok(error instanceof UnavailableError);
      assert.match(error.message, /did not start: ended with exit code 1; it said: .*no-such-option/);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    });
  });

  it.each(["SIGKILL", "SIGTERM"] as const)(
    "a server does not outlive a parent that ends by %s",
    async (signal) => {
      const program = fileURLToPath(new URL("launch-and-wait.ts", import.meta.url));
      const parent = spawn(process.execPath, ["--conditions=@cocoon-net/source", program], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      let dataDir: string | undefined;
      try {
        const [line] = await within("the parent's server", 25_000, once(parent.stdout, "data"));
        const started = JSON.parse(String(line)) as { pid: number; dataDir: string };
        dataDir = started.dataDir;
        assert.ok(isRunning(started.pid));
        parent.kill(signal);
        await until("the server's end", 15_000, () => !isRunning(started.pid));
      } finally {
        parent.kill("SIGKILL");
        if (dataDir !== undefined) rmSync(dataDir, { recursive: true, force: true });
      }
    },
    60_000,
  );
});

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

async function etcd(server: TestServer, method: string, body: unknown): Promise<string> {
  const answer = await fetch(`http://${server.host}:${server.port}/v3/kv/${method}`, {
    method: "POST",
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(4_000),
  });
  assert.ok(answer.ok, `${method}: ${answer.status}`);
  return answer.text();
}

async function redis(server: TestServer, command: string): Promise<string> {
  const socket = connect({ host: server.host, port: server.port });
  try {
    socket.write(`${command}\r\n`);
    const [answer] = await within(command, 4_000, once(socket, "data"));
    return String(answer);
  } finally {
    socket.destroy();
  }
}
