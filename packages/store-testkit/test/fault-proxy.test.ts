import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type FaultProxy, startFaultProxy, until, within } from "@cocoon-net/store-testkit";
import { describe, it } from "vitest";

/** An echo server that keeps what it received, a proxy in front of it, and clients of that proxy. */
class Setup implements AsyncDisposable {
  received = "";
  readonly proxy: FaultProxy;
  readonly #stack: AsyncDisposableStack;

  private constructor(proxy: FaultProxy, stack: AsyncDisposableStack) {
    this.proxy = proxy;
    this.#stack = stack;
  }

  static async start(): Promise<Setup> {
    const stack = new AsyncDisposableStack();
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("data", (data) => {
        setup.received += data.toString();
        socket.write(data);
      });
      socket.on("end", () => socket.end("bye"));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    stack.defer(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    const { port } = server.address() as AddressInfo;
    const proxy = stack.use(await startFaultProxy({ target: { host: "127.0.0.1", port } }));
    const setup = new Setup(proxy, stack);
    return setup;
  }

  client(): Client {
    const client = new Client(this.proxy);
    this.#stack.defer(() => {
      client.socket.destroy();
    });
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

class Client {
  text = "";
  closed = false;
  error: string | undefined;
  readonly socket: Socket;

  constructor({ host, port }: FaultProxy) {
    this.socket = connect({ host, port, allowHalfOpen: true });
    this.socket.on("data", (data) => {
      this.text += data.toString();
    });
    this.socket.on("error", (error: NodeJS.ErrnoException) => {
      this.error = error.code;
    });
    this.socket.on("close", () => {
      this.closed = true;
    });
  }

  async says(text: string): Promise<void> {
    await until(`"${text}" from the server`, 15_000, () => this.text === text);
  }
}

/** Long enough for data to cross the loopback many times over; for showing that something does not happen. */
async function staysSilent(what: string, seen: () => boolean): Promise<void> {
  await assert.rejects(until(what, 200, seen), /not within 200 ms/);
}

describe.concurrent("startFaultProxy", () => {
  it("passes data both ways, ends with ends, and much of it", async () => {
    await using setup = await Setup.start();
    const client = setup.client();
    client.socket.write("hello ");
    await client.says("hello ");
    const big = "x".repeat(5_000_000);
    client.socket.end(big);
    await client.says(`hello ${big}bye`);
    await until("the close", 15_000, () => client.closed);
    assert.equal(client.error, undefined);
    await until("the connection's end", 15_000, () => setup.proxy.connections === 0);
  });

  it("cut resets what is open and takes what is new", async () => {
    await using setup = await Setup.start();
    const client = setup.client();
    client.socket.write("one");
    await client.says("one");
    await setup.proxy.cut();
    await until("the reset", 15_000, () => client.closed);
    assert.equal(client.error, "ECONNRESET");
    const next = setup.client();
    next.socket.write("two");
    await next.says("two");
  });

  it("refuse resets what is open and refuses what is new, until pass", async () => {
    await using setup = await Setup.start();
    const client = setup.client();
    client.socket.write("one");
    await client.says("one");
    await setup.proxy.refuse();
    await until("the reset", 15_000, () => client.closed);
    const refused = setup.client();
    await until("the refusal", 15_000, () => refused.closed);
    assert.equal(refused.error, "ECONNREFUSED");
    await setup.proxy.pass();
    const next = setup.client();
    next.socket.write("two");
    await next.says("two");
  });

  it("blackhole holds open and new connections still, and what they said arrives after pass", async () => {
    await using setup = await Setup.start();
    const old = setup.client();
    old.socket.write("one");
    await old.says("one");
    await setup.proxy.blackhole();
    old.socket.write("two");
    const fresh = setup.client();
    await once(fresh.socket, "connect");
    fresh.socket.write("three");
    await staysSilent(
      "something to get through",
      () => setup.received !== "one" || old.closed || fresh.closed,
    );
    await setup.proxy.pass();
    await old.says("onetwo");
    await fresh.says("three");
  });

  it("swallow lets the request through, drops the answer, and breaks that connection only", async () => {
    await using setup = await Setup.start();
    const bystander = setup.client();
    bystander.socket.write("a");
    await bystander.says("a");
    const client = setup.client();
    client.socket.write("b");
    await client.says("b");
    await setup.proxy.swallow();
    client.socket.write("c");
    await until("the request", 15_000, () => setup.received === "abc");
    await until("the reset", 15_000, () => client.closed);
    assert.equal(client.text, "b");
    bystander.socket.write("d");
    await bystander.says("ad");
  });

  it("delay holds answers back, in order, and not one after the other", async () => {
    await using setup = await Setup.start();
    const client = setup.client();
    client.socket.write("a");
    await client.says("a");
    await setup.proxy.delay(300);
    const start = performance.now();
    const letters = [..."bcdefghijklmnopqrstuvwxyz"];
    for (const text of letters) {
      client.socket.write(text);
      await until("the request", 15_000, () => setup.received.endsWith(text));
    }
    await client.says(`a${letters.join("")}`);
    const took = performance.now() - start;
    assert.ok(took >= 290, `answered after ${took} ms`);
    // One after the other they would take 7.5 s.
    assert.ok(took < 5_000, `answered after ${took} ms: the delays have added up`);
  });

  it("ends its connections when it is disposed, once or twice", async () => {
    await using setup = await Setup.start();
    const client = setup.client();
    client.socket.write("a");
    await client.says("a");
    await setup.proxy.blackhole();
    await setup.proxy[Symbol.asyncDispose]();
    await setup.proxy[Symbol.asyncDispose]();
    await until("the reset", 15_000, () => client.closed);
    const refused = setup.client();
    await until("the refusal", 15_000, () => refused.closed);
    assert.equal(refused.error, "ECONNREFUSED");
  });

  it("breaks the client's connection when the server is not there", async () => {
    const proxy = await startFaultProxy({ target: { host: "127.0.0.1", port: 1 } });
    await using _ = proxy;
    const client = new Client(proxy);
    await within(
      "the end",
      15_000,
      until("the close", 15_000, () => client.closed),
    );
  });
});
