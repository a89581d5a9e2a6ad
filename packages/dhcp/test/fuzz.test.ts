import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { fuzz } from "./fuzz/fuzzer.ts";

it("200,000 packets near to what real clients send: no throw, no forbidden reply, no leak", {
  timeout: 180_000,
}, () => {
  setFlagsFromString("--expose-gc");
  globalThis.gc ??= runInNewContext("gc") as NodeJS.GCFunction;
  const { outcomes, heap } = fuzz(200_000, 20_261_101);
  // Each way out of the server is taken; else the packets are too wild, or too tame.
  const ways = [
    "offer",
    "ack",
    "nak",
    "inform-ack",
    "release",
    "decline",
    "port-limit",
    "foreign-subnet",
    "bad-relay",
  ];
  const problems = ["too-short", "too-long", "wrong-magic", "option-overrun", "bad-overload", "bad-option"];
  const foreign = ["not-a-request", "wrong-hardware", "no-message-type", "not-from-a-client", "other-server"];
  expect(Object.keys(outcomes)).toEqual(expect.arrayContaining([...ways, ...problems, ...foreign]));
  expect(heap.end - heap.early).toBeLessThan(4 * 2 ** 20);
});
