import { AuthError, type Store, UnavailableError } from "@cocoon-net/core";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { until } from "@cocoon-net/store-testkit";
import { describe, it } from "vitest";
import { etcdctl } from "./etcdctl.ts";
import { TlsEtcd } from "./tls-etcd.ts";
import { WatchRecord } from "./watch-record.ts";

const open = ({ port, ca, cert, key }: TlsEtcd) =>
  openEtcdStore(`etcds://127.0.0.1:${port}?ca=${ca}&cert=${cert}&key=${key}`);

const put = (store: Store, key: string, value: string) => store.txn({ then: [{ put: key, value }] });

/** Waits until calls fail for what the certificates say, and nothing of them was applied. */
async function refused(what: string, store: Store, reason: RegExp): Promise<void> {
  await until(what, 20_000, async () => {
    const error: unknown = await put(store, "k/refused", "x").catch((caught: unknown) => caught);
    return error instanceof UnavailableError && error.outcome === "none" && reason.test(error.message);
  });
}

describe.concurrent("rotating certificates", { timeout: 90_000 }, () => {
  it("when the CA was replaced on the server, the client's new files are taken up without a restart", async ({
    expect,
  }) => {
    await using server = await TlsEtcd.start();
    await using store = await open(server);
    await using session = await store.session(60_000);
    await using watch = new WatchRecord(store, "k/");
    await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
    await put(store, "k/1", "old");
    server.addCa("new-ca");
    server.giveServer("new-ca");
    await server.restart("new-ca");
    await refused("the store to distrust the server", store, /certificate/);
    server.giveClient("new-ca", "new-ca");
    const given = performance.now();
    // One whose answer did not come in time may have been applied.
    const absent = [{ key: "k/2", exists: false }];
    await until("a write", 15_000, () => store.txn({ if: absent, then: [{ put: "k/2", value: "new" }] }));
    console.log(
      `certificate rotation: writes ${Math.round(performance.now() - given)} ms after the new files`,
    );
    await watch.until("the change", 15_000, ({ changes }) => changes.at(-1) === "k/2=new");
    expect(watch.changes).toEqual(["k/1=old", "k/2=new"]);
    expect(watch.snapshots).toBe(1);
    expect(session.signal.aborted).toBe(false);
  });

  it("a client that the server has come to refuse recovers by its new files", async () => {
    await using server = await TlsEtcd.start();
    await using store = await open(server);
    await put(store, "k/1", "old");
    server.addCa("new-ca");
    await server.restart("new-ca");
    await refused("the server to refuse the store", store, /alert/);
    server.giveClient("ca", "new-ca");
    await until("a write", 15_000, () => put(store, "k/2", "new"));
  });

  it("while all is well, new files are taken up, and nothing fails for it", async ({ expect }) => {
    await using server = await TlsEtcd.start();
    const admin = ["--cacert", server.ca, "--cert", server.cert, "--key", server.key];
    // etcd takes the certificate's common name for the user. Only "next" may write outside k/.
    for (const user of ["root", "client", "next"]) {
      await etcdctl(server, ...admin, "user", "add", `${user}:secret`);
      await etcdctl(server, ...admin, "role", "add", user);
      await etcdctl(server, ...admin, "user", "grant-role", user, user);
    }
    for (const [role, permission, prefix] of [
      ["client", "read", "/cocoon-net/"],
      ["client", "write", "/cocoon-net/k/"],
      ["next", "readwrite", "/cocoon-net/"],
    ] as const) {
      await etcdctl(
        server,
        ...[...admin, "role", "grant-permission", role, permission, "--prefix=true", prefix],
      );
    }
    await etcdctl(server, ...admin, "auth", "enable");
    await using store = await open(server);
    await using session = await store.session(10_000);
    await using watch = new WatchRecord(store, "k/");
    await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
    await expect(put(store, "next", "x")).rejects.toBeInstanceOf(AuthError);
    server.giveClient("ca", "ca", "next");
    const written: string[] = [];
    await until("the new certificate's permission", 30_000, async () => {
      await put(store, "k/n", `${written.length}`).catch((error: unknown) => expect.fail(String(error)));
      written.push(`k/n=${written.length}`);
      try {
        return (await put(store, "next", "x")).succeeded;
      } catch (error) {
        expect(error).toBeInstanceOf(AuthError);
        return false;
      }
    });
    await put(store, "k/end", "");
    await watch.until("the last change", 15_000, ({ changes }) => changes.at(-1) === "k/end=");
    expect(watch.changes).toEqual([...written, "k/end="]);
    expect(watch.snapshots).toBe(1);
    expect(session.signal.aborted).toBe(false);
  });
});
