import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuthError, InvalidError } from "@cocoon-net/core";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, type TestServer, until } from "@cocoon-net/store-testkit";
import { describe, it } from "vitest";
import { etcdctl } from "./etcdctl.ts";
import { WatchRecord } from "./watch-record.ts";

/** Turns authentication on, with the user `agent` who may use `/cocoon-net/`. */
async function enableAuth(server: TestServer): Promise<void> {
  await etcdctl(server, "user", "add", "root:root-secret");
  await etcdctl(server, "user", "grant-role", "root", "root");
  await etcdctl(server, "role", "add", "node");
  await etcdctl(server, "role", "grant-permission", "node", "readwrite", "--prefix=true", "/cocoon-net/");
  await etcdctl(server, "user", "add", "agent:agent-secret");
  await etcdctl(server, "user", "grant-role", "agent", "node");
  await etcdctl(server, "auth", "enable");
}

const asRoot = ["--user", "root:root-secret"];

describe.concurrent("etcd authentication", { timeout: 90_000 }, () => {
  it("tells wrong, missing and needless credentials from an outage", async ({ expect }) => {
    await using server = await startEtcd();
    const at = `127.0.0.1:${server.port}`;
    await expect(openEtcdStore(`etcd://agent:agent-secret@${at}`)).rejects.toMatchObject({
      code: "invalid",
      hint: expect.stringContaining("take user:password out"),
    });
    await enableAuth(server);
    await expect(openEtcdStore(`etcd://${at}`)).rejects.toMatchObject({
      code: "auth",
      hint: expect.stringContaining("put user:password into"),
    });
    const wrong: unknown = await openEtcdStore(`etcd://agent:wr0ng@${at}`).catch((error: unknown) => error);
    expect(wrong).toBeInstanceOf(AuthError);
    expect(String(wrong)).not.toContain("wr0ng");
    await expect(openEtcdStore(`etcd://agent:agent-secret@${at}/elsewhere`)).rejects.toMatchObject({
      code: "auth",
      hint: expect.stringContaining("grant-permission"),
    });
    await using store = await openEtcdStore(`etcd://agent:agent-secret@${at}`);
    expect(store.label).toBe(`etcd://agent@${at}`);
    await store.txn({ then: [{ put: "k", value: "v" }] });
  });

  it("a watch, a session and calls outlive a restart that forgets the login", async ({ expect }) => {
    // With a snapshot after each write the server does not find the login in its log again.
    await using server = await startEtcd({ extraArgs: ["--snapshot-count", "1"] });
    await enableAuth(server);
    await using store = await openEtcdStore(`etcd://agent:agent-secret@127.0.0.1:${server.port}`);
    await using session = await store.session(30_000);
    await using watch = new WatchRecord(store, "k/");
    await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
    for (let n = 0; n < 5; n += 1) await store.txn({ then: [{ put: "k/n", value: `${n}`, session }] });
    await server.restart("SIGKILL");
    await until("a write", 15_000, async () => {
      // A first one whose answer did not come in time may have been applied.
      const absent = [{ key: "k/after", exists: false }];
      return await store.txn({ if: absent, then: [{ put: "k/after", value: "1" }] });
    });
    await watch.until("the change", 15_000, ({ changes }) => changes.at(-1) === "k/after=1");
    expect(watch.changes).toEqual(["k/n=0", "k/n=1", "k/n=2", "k/n=3", "k/n=4", "k/after=1"]);
    expect(watch.snapshots).toBe(1);
    expect(session.signal.aborted).toBe(false);
  });

  it("a watch ends with an AuthError when the permission is taken away", async ({ expect }) => {
    await using server = await startEtcd();
    await enableAuth(server);
    await using store = await openEtcdStore(`etcd://agent:agent-secret@127.0.0.1:${server.port}`);
    await using watch = new WatchRecord(store, "k/");
    await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
    await etcdctl(server, ...asRoot, "role", "revoke-permission", "node", "--prefix=true", "/cocoon-net/");
    await server.restart();
    await expect(watch.until("its end", 20_000, () => false)).rejects.toBeInstanceOf(AuthError);
    await expect(store.txn({ then: [{ put: "k/1", value: "" }] })).rejects.toBeInstanceOf(AuthError);
  });

  it("a token that says an older state of the users is replaced", async () => {
    const keys = mkdtempSync(join(tmpdir(), "cocoon-net-jwt-"));
    try {
      const [key, pub] = [join(keys, "jwt.key"), join(keys, "jwt.pub")];
      execFileSync("openssl", ["genrsa", "-out", key, "2048"], { stdio: "ignore" });
      execFileSync("openssl", ["rsa", "-in", key, "-pubout", "-out", pub], { stdio: "ignore" });
      const token = `jwt,pub-key=${pub},priv-key=${key},sign-method=RS256,ttl=10m`;
      await using server = await startEtcd({ extraArgs: ["--auth-token", token] });
      await enableAuth(server);
      await using store = await openEtcdStore(`etcd://agent:agent-secret@127.0.0.1:${server.port}`);
      await using watch = new WatchRecord(store, "k/");
      await watch.until("snapshot", 15_000, ({ snapshots }) => snapshots === 1);
      await etcdctl(server, ...asRoot, "role", "add", "another");
      await store.txn({ then: [{ put: "k/1", value: "a" }] });
      await watch.until("change", 15_000, ({ changes }) => changes.length === 1);
    } finally {
      rmSync(keys, { recursive: true });
    }
  });

  it("takes both of user name and password or none", async ({ expect }) => {
    await expect(openEtcdStore("etcd://agent@127.0.0.1:1")).rejects.toBeInstanceOf(InvalidError);
  });
});
