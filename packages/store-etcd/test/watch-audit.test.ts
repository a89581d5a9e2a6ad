import type { WatchBatch } from "@cocoon-net/core";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, summary, until } from "@cocoon-net/store-testkit";
import type { IWatchResponse } from "etcd3";
import { describe, it } from "vitest";
import { EtcdConnection, type WatchCall } from "../src/connection.ts";
import { Keyspace } from "../src/keyspace.ts";
import { resolveEtcdOptions } from "../src/options.ts";
import { watchPrefix } from "../src/watch.ts";
import { losesChanges, WatchAudit } from "../src/watch-audit.ts";

/** Its streams lose the events of some keys, as the servers with the bug do. */
class LossyConnection extends EtcdConnection {
  lost: ReadonlySet<string> = new Set();

  override async watchStream(signal: AbortSignal): Promise<WatchCall> {
    const stream = await super.watchStream(signal);
    const on = stream.on.bind(stream) as (event: string, listener: (item: unknown) => void) => WatchCall;
    const lossy = (event: string, listener: (item: unknown) => void): WatchCall =>
      event === "data"
        ? on(event, (frame) => listener(this.#without(frame as IWatchResponse)))
        : on(event, listener);
    return Object.assign(stream, { on: lossy }) as WatchCall;
  }

  #without(frame: IWatchResponse): IWatchResponse {
    const events = frame.events.filter(({ kv }) => !this.lost.has(kv.key.toString()));
    return Object.assign(frame, { events });
  }
}

describe.concurrent("the audit of a watch", { timeout: 90_000 }, () => {
  it("is for the servers that need it", ({ expect }) => {
    const lossy = ["3.3.27", "3.4.0", "3.4.23", "3.4.30", "3.5.0", "3.5.12", "3.5.0-rc.1"];
    expect(lossy.filter(losesChanges)).toEqual(lossy);
    expect(["3.4.31", "3.4.44", "3.5.13", "3.5.30", "3.6.0", "4.0.1"].filter(losesChanges)).toEqual([]);
  });

  for (const from of ["a snapshot", "a revision"] as const) {
    it(`tells what the server has lost, and nothing that was told (from ${from})`, async ({ expect }) => {
      await using server = await startEtcd();
      await using store = await openEtcdStore(`etcd://127.0.0.1:${server.port}/a`);
      const put = (key: string, value: string) => store.txn({ then: [{ put: key, value }] });
      await put("k/old", "0");
      const { revision } = await put("k/stays", "0");
      const connection = new LossyConnection(
        resolveEtcdOptions({ hosts: [{ host: "127.0.0.1", port: server.port }] }),
      );
      const keyspace = new Keyspace("/a/");
      await connection.probe(keyspace.range(""));
      const ended = new AbortController();
      const batches: WatchBatch[] = [];
      const changes = () =>
        summary(batches.flatMap((batch) => (batch.type === "changes" ? batch.changes : [])));
      const following = (async () => {
        const watch = watchPrefix({
          connection,
          keyspace,
          prefix: "k/",
          fromRevision: from === "a revision" ? revision : undefined,
          ended: ended.signal,
          // Audits follow one another as fast as they can.
          audit: new WatchAudit(300),
        });
        for await (const batch of watch) batches.push(batch);
      })();
      try {
        // While it looks again and again, every change comes once and in its place.
        const told: string[] = [];
        if (from === "a snapshot") await until("the snapshot", 15_000, () => batches.length === 1);
        for (let turn = 0; turn < 40; turn += 1) {
          await put(`k/${turn % 5}`, `${turn}`);
          told.push(`k/${turn % 5}=${turn}`);
          if (turn % 5 === 3) {
            await store.txn({ then: [{ delete: `k/${turn % 5}` }] });
            told.push(`-k/${turn % 5}`);
          }
          await until("the change", 15_000, () => changes().length >= told.length);
          // Spreads the writes over several looks.
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        expect(changes()).toEqual(told);
        connection.lost = new Set(["/a/k/new", "/a/k/1", "/a/k/old"]);
        await put("k/new", "lost");
        await put("k/1", "lost");
        await store.txn({ then: [{ delete: "k/old" }] });
        await put("k/told", "1");
        await until("what was lost", 30_000, () => changes().length >= told.length + 4);
        expect(changes().slice(told.length).toSorted()).toEqual([
          "-k/old",
          "k/1=lost",
          "k/new=lost",
          "k/told=1",
        ]);
        expect(batches.filter((batch) => batch.type === "snapshot")).toHaveLength(
          from === "a snapshot" ? 1 : 0,
        );
      } finally {
        ended.abort();
        await following;
        connection.close();
      }
    });
  }
});
