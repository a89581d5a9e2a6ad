import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import type { Endpoint } from "../src/dhcp/batch-socket.ts";
import { GuestsProcess, nodeCommand } from "../src/dhcp/guests-process.ts";
import type { GuestsOptions } from "../src/dhcp/relayed-guests.ts";

const leaseSeconds = 3_600;
/** Nobody is this slow: a busy machine loses nothing. */
const endless = 30_000;

/** Of the loopback network, and nobody else's. */
function somewhere(): Endpoint {
  return { address: `127.${randomInt(1, 255)}.${randomInt(256)}.${randomInt(1, 255)}`, port: 6_767 };
}

function optionsFor(count: number, patienceMs: number): GuestsOptions {
  return { relay: somewhere(), server: somewhere(), count, leaseSeconds, patienceMs };
}

/** What a server of the test makes of an answer that would be right. */
type Deed = (answer: Buffer, send: (answer: Buffer) => void) => void;

/** Answers as a DHCP server does, but for what is done to the answers to renewals; remembers the renewals. */
class TestServer implements AsyncDisposable {
  readonly renewals: Buffer[] = [];
  readonly #socket: Socket = createSocket("udp4");

  static async start(
    { server, relay }: GuestsOptions,
    deeds: ReadonlyMap<number, Deed>,
  ): Promise<TestServer> {
    const started = new TestServer();
    const socket = started.#socket;
    socket.on("message", (message) => {
      const isDiscover = message[242] === 1;
      const isRenewal = message.readUInt32BE(12) !== 0;
      if (isRenewal) started.renewals.push(message);
      const guest = message.readUInt32BE(30);
      const answer = Buffer.alloc(300);
      message.copy(answer, 0, 0, 240);
      answer[0] = 2;
      answer.set([10, 0, 0, 10 + guest], 16);
      const id = server.address.split(".").map(Number);
      answer.set([53, 1, isDiscover ? 2 : 5, 51, 4, 0, 0, 14, 16, 54, 4, ...id, 255], 240);
      const send = (packet: Buffer): void => void socket.send(packet, relay.port, relay.address, () => {});
      const deed = isRenewal ? deeds.get(guest) : undefined;
      if (deed === undefined) send(answer);
      else deed(answer, send);
    });
    socket.bind(server.port, server.address);
    await once(socket, "listening");
    return started;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    await once(this.#socket, "close");
  }
}

function changed(offset: number, value: number): Deed {
  return (answer, send) => {
    answer[offset] = value;
    send(answer);
  };
}

describe("the generator of renewals", () => {
  it("takes nothing but a right ACK for an answer, and that once", { timeout: 60_000 }, async () => {
    const options = optionsFor(20, endless);
    const twice: Deed = (answer, send) => {
      send(answer);
      send(answer);
    };
    const wrong: [number, Deed][] = [
      [1, changed(242, 6)], // a NAK
      [2, changed(19, 99)], // another's address
      [3, changed(247, 0)], // a shorter lease
      [4, changed(252, 9)], // another server
      [5, changed(33, 200)], // another's MAC
    ];
    await using server = await TestServer.start(options, new Map([...wrong, [0, twice]]));
    await using guests = new GuestsProcess(options);
    expect(await guests.lease(1_000)).toMatchObject({
      begun: 20,
      sent: 40,
      answered: 40,
      acks: 20,
      wrong: 0,
    });
    const found = await guests.renew(500, 0.04);
    expect(found).toMatchObject({ begun: 20, sent: 20, answered: 15, acks: 15, wrong: 5 });
    expect(found.example).toMatch(/^type \d, 10\.0\.0\.\d+ for \d+ s, to guest \d+$/);

    // RFC 2131 §4.3.2: a renewal has its address in ciaddr, and neither option 50 nor 54.
    expect(server.renewals).toHaveLength(20);
    for (const [index, renewal] of server.renewals.entries()) {
      expect([...renewal.subarray(12, 16)]).toEqual([10, 0, 0, 10 + index]);
      expect([...renewal.subarray(240, 254)]).toEqual([53, 1, 3, 55, 6, 1, 3, 6, 12, 15, 28, 255, 0, 0]);
    }
  });

  it("counts as lost what is answered late or not at all", { timeout: 60_000 }, async () => {
    const options = optionsFor(10, 2_000);
    const late: (() => void)[] = [];
    const deeds = new Map<number, Deed>([
      [3, () => {}],
      [4, (answer, send) => late.push(() => send(answer))],
    ]);
    await using server = await TestServer.start(options, deeds);
    await using guests = new GuestsProcess(options);
    await guests.lease(1_000);
    expect(await guests.renew(500, 0.02)).toMatchObject({ sent: 10, answered: 8, wrong: 0 });
    for (const answer of late) answer();
    // Three more: none of them is taken for answered by what came late.
    expect(await guests.renew(500, 0.006)).toMatchObject({ sent: 3, answered: 3, wrong: 0 });
    expect(server.renewals).toHaveLength(13);
  });

  it("gets every answer of a server that does nothing else", { timeout: 60_000 }, async () => {
    const options = optionsFor(300, endless);
    const { server, relay } = options;
    const [program = "", ...args] = nodeCommand(
      "echo-server",
      JSON.stringify({ server, relay, firstAddress: "10.0.0.2", leaseSeconds }),
    );
    const echo = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await once(echo.stdout, "data");
      await using guests = new GuestsProcess(options);
      expect(await guests.lease(2_000)).toMatchObject({ sent: 600, answered: 600, wrong: 0 });
      const found = await guests.renew(5_000, 0.2);
      expect(found).toMatchObject({ sent: 1_000, answered: 1_000, acks: 1_000, wrong: 0 });
      expect(found.cpuMs).toBeGreaterThan(0);
      expect(found.p50).toBeLessThanOrEqual(found.p99);
    } finally {
      echo.kill("SIGKILL");
    }
  });
});
