import assert from "node:assert/strict";
import { describe, it } from "vitest";
import { Connection } from "../src/connection.ts";
import { resolveOptions } from "../src/options.ts";
import { Wake } from "../src/wake.ts";

const options = resolveOptions({ hosts: [{ host: "127.0.0.1", port: 1 }] });
/** Never connected: a wake only hands it on. */
const connection = new Connection(options, { silenceMs: 1_000, lasting: false });
const never = new AbortController().signal;
const at = (revision: number) => ({ revision, stamp: `s${revision}` });

/** A watch that stands at revision 5 and has looked at all it has heard of. */
async function settled(): Promise<Wake> {
  const wake = new Wake("w/", at(5), () => {});
  wake.attach(connection);
  assert.deepEqual((await wake.next(never))?.range, { start: at(5), inclusive: false, upTo: undefined });
  return wake;
}

describe("a watch's place in history", () => {
  it("moves to what was told, when nothing was announced before", async () => {
    const wake = await settled();
    const next = wake.next(never);
    wake.told(at(9));
    wake.announce(at(12));
    assert.deepEqual((await next)?.range, { start: at(12), inclusive: true, upTo: 12 });
    assert.deepEqual(wake.position, at(9));
  });

  it("waits for what was announced to be looked at, though the consumer is slow or still asking", async () => {
    const slow = await settled();
    slow.announce(at(7));
    slow.told(at(9));
    assert.deepEqual((await slow.next(never))?.range, { start: at(7), inclusive: true, upTo: 7 });
    assert.deepEqual(slow.position, at(5));
    const asking = await settled();
    const next = asking.next(never);
    asking.announce(at(7));
    asking.told(at(9));
    assert.deepEqual(asking.position, at(5));
    assert.deepEqual((await next)?.range, { start: at(7), inclusive: true, upTo: 7 });
  });

  it("covers in one look all that was announced meanwhile, but nothing twice", async () => {
    const wake = await settled();
    for (const revision of [7, 8, 11]) wake.announce(at(revision));
    assert.deepEqual((await wake.next(never))?.range, { start: at(7), inclusive: true, upTo: 11 });
    wake.position = at(11);
    for (const revision of [10, 14]) wake.announce(at(revision));
    assert.deepEqual((await wake.next(never))?.range, { start: at(11), inclusive: false, upTo: 14 });
    wake.position = at(14);
    wake.announce(at(13));
    const stop = new AbortController();
    const nothing = wake.next(stop.signal);
    stop.abort();
    assert.equal(await nothing, undefined);
    assert.deepEqual(wake.position, at(14));
  });

  it("after a doubt, or on another connection, is where everything is looked at from", async () => {
    for (const disturb of [(wake: Wake) => wake.doubt(), (wake: Wake) => wake.detach(connection)]) {
      const wake = await settled();
      wake.announce(at(7));
      wake.told(at(9));
      disturb(wake);
      wake.announce(at(12));
      wake.attach(connection);
      assert.deepEqual((await wake.next(never))?.range, { start: at(5), inclusive: false, upTo: undefined });
      assert.deepEqual(wake.position, at(5));
    }
  });

  it("is nowhere before the first snapshot, which is asked for once it is listened to", async () => {
    const wake = new Wake("w/", undefined, () => {});
    const next = wake.next(never);
    wake.attach(connection);
    const look = await next;
    assert.ok(look);
    assert.equal(look.range, undefined);
  });

  it("ends with the error that the connection ended with for good", async () => {
    const wake = new Wake("w/", undefined, () => {});
    const next = wake.next(never);
    wake.fail(new Error("no"));
    await assert.rejects(next, /no/);
  });
});
