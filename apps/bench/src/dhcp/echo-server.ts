// A server that looks nothing up and keeps nothing: what can be measured here of the best there could be.
import { writeSync } from "node:fs";
import { parseAddress } from "@cocoon-net/core";
import { BatchSocket, type Endpoint } from "./batch-socket.ts";
import { answerTo, messageBytes } from "./guest-messages.ts";

export interface EchoOptions {
  readonly server: Endpoint;
  readonly relay: Endpoint;
  /** Guest number n gets the nth address from here on. */
  readonly firstAddress: string;
  readonly leaseSeconds: number;
}

const slots = 64;
const napMs = 1;

/** Never returns: the process is to be ended. */
export function serveEcho({ server, relay, firstAddress, leaseSeconds }: EchoOptions): never {
  const socket = new BatchSocket(server, relay, slots);
  const first = parseAddress(firstAddress);
  const self = parseAddress(server.address);
  const bed = new Int32Array(new SharedArrayBuffer(4));
  const answers = Array.from({ length: slots }, (_, slot) => socket.slot(slot, messageBytes));
  let next = 0;
  writeSync(1, "ready\n");
  for (;;) {
    const received = socket.receive((message) => {
      const slot = next++ % slots;
      answerTo(message, answers[slot] ?? Buffer.alloc(0), first, self, leaseSeconds);
      // The batch is as large as there are slots: it leaves before its first one is used again.
      socket.send(slot);
    });
    socket.flush();
    if (received < slots / 4) Atomics.wait(bed, 0, 0, napMs);
  }
}

const [options] = process.argv.slice(2);
if (import.meta.main && options !== undefined) serveEcho(JSON.parse(options) as EchoOptions);
