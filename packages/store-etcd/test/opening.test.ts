import { createServer } from "node:net";
import { describeError, InvalidError, parseConnectionUrl, UnavailableError } from "@cocoon-net/core";
import { etcdDriver, openEtcdStore } from "@cocoon-net/store-etcd";
import { freePort, startEtcd, type TestServer } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { etcdctl } from "./etcdctl.ts";
import { TlsEtcd } from "./tls-etcd.ts";

describe("opening etcd", () => {
  let plain: TestServer;
  beforeAll(async () => {
    plain = await startEtcd();
  });
  afterAll(() => plain[Symbol.asyncDispose]());

  it("reads what the server gives", async () => {
    await using store = await etcdDriver.open(parseConnectionUrl(`etcd://127.0.0.1:${plain.port}`));
    expect(store.capabilities).toMatchObject({
      server: expect.stringMatching(/^etcd 3\.\d+\.\d+/),
      linearizable: true,
      pinnedReads: true,
      trustworthy: true,
      maxOperations: 128,
      durability: "fsynced by its only member: survives its crash, not the loss of its disk",
    });
    expect(await store.incarnation()).toMatch(/^\d+$/);
  });

  it("keeps its keys as the layout names them, and nothing else", async () => {
    await using store = await openEtcdStore(`etcd://127.0.0.1:${plain.port}`);
    await using session = await store.session(60_000);
    await store.txn({
      then: [
        { put: "subnets/n1", value: '"172.20.100.0/24"' },
        { put: "alive/n1", value: "{}", session },
      ],
    });
    const printed = await etcdctl(plain, "get", "--prefix", "/cocoon-net/");
    expect(printed).toBe('/cocoon-net/alive/n1\n{}\n/cocoon-net/subnets/n1\n"172.20.100.0/24"\n');
    expect(await etcdctl(plain, "get", "--prefix", "--keys-only", "")).toBe(
      "/cocoon-net/alive/n1\n\n/cocoon-net/subnets/n1\n\n",
    );
  });

  it("refuses URLs that cannot work, before it connects", async () => {
    for (const url of [
      "etcd:",
      "etcd://127.0.0.1:1?sslmode=off",
      "etcd://127.0.0.1:1?ca=/etc/ca.pem",
      "etcds://127.0.0.1:1?ca=/nonexistent/ca.pem",
      `etcds://127.0.0.1:1?ca=${import.meta.filename}`,
      `etcds://127.0.0.1:1?cert=${import.meta.filename}`,
      "etcd://agent@127.0.0.1:1",
    ]) {
      await expect(openEtcdStore(url), url).rejects.toBeInstanceOf(InvalidError);
    }
  });

  it("says in one line that nobody listens there", async () => {
    const port = await freePort();
    const error: unknown = await openEtcdStore(`etcd://127.0.0.1:${port}`).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(UnavailableError);
    expect(describeError(error)).toBe(
      `open on etcd 127.0.0.1:${port}: connect ECONNREFUSED 127.0.0.1:${port}; ` +
        "check that etcd runs there, has a leader, and can be reached from here",
    );
  });

  it("says in one line that a name does not resolve", async () => {
    // Too long a label for DNS: no server is asked, none can keep us waiting.
    const name = `${"no-such-host".repeat(6)}.invalid`;
    await expect(openEtcdStore(`etcd://${name}:2379`)).rejects.toThrow(
      `open on etcd ${name}:2379: Name resolution failed`,
    );
  });

  it.concurrent("gives up on a server that never answers", async () => {
    const hole = createServer(() => {});
    const port = await freePort();
    await new Promise<void>((resolve) => hole.listen(port, "127.0.0.1", resolve));
    try {
      const start = performance.now();
      await expect(openEtcdStore(`etcd://127.0.0.1:${port}`)).rejects.toThrow(`on etcd 127.0.0.1:${port}: `);
      // Its deadline is 5 s.
      expect(performance.now() - start).toBeLessThan(15_000);
    } finally {
      hole.close();
      hole.unref();
    }
  });

  it("stops at its signal", async () => {
    const reason = new Error("enough");
    await expect(
      openEtcdStore(`etcd://127.0.0.1:${plain.port}`, { signal: AbortSignal.abort(reason) }),
    ).rejects.toBe(reason);
  });

  it("tells a server without TLS", async () => {
    await expect(openEtcdStore(`etcds://127.0.0.1:${plain.port}`)).rejects.toMatchObject({
      code: "invalid",
      hint: "write etcd:// instead of etcds://",
    });
  });
});

describe("opening etcd over TLS", { timeout: 60_000 }, () => {
  it("works with both certificates, and tells every mistake from an outage", async () => {
    await using server = await TlsEtcd.start();
    const { ca, cert, key, otherCa } = server;
    const otherKey = otherCa.replace(/crt$/, "key");
    const at = `127.0.0.1:${server.port}`;
    await using store = await openEtcdStore(`etcds://${at}?ca=${ca}&cert=${cert}&key=${key}`);
    expect((await store.txn({ then: [{ put: "k", value: "v" }] })).succeeded).toBe(true);
    const mistakes: readonly (readonly [url: string, hint: string])[] = [
      [`etcds://${at}?ca=${otherCa}&cert=${cert}&key=${key}`, "give the CA"],
      [`etcds://${at}`, "give the CA"],
      [`etcds://${at}?ca=${ca}`, "wants a client certificate"],
      [
        `etcds://${at}?ca=${ca}&cert=${otherCa}&key=${otherKey}`,
        "wants a client certificate that its CA signed",
      ],
      [`etcds://${at}?ca=${ca}&cert=${cert}&key=${otherKey}`, "the key that belongs to the certificate"],
      [`etcd://${at}`, "write etcds:// instead"],
    ];
    for (const [url, hint] of mistakes) {
      await expect(openEtcdStore(url), url).rejects.toMatchObject({
        code: "invalid",
        hint: expect.stringContaining(hint),
      });
    }
  });

  it("tells a certificate that is for another name", async () => {
    await using server = await TlsEtcd.start({ subjectAltName: "DNS:elsewhere.example" });
    const { ca, cert, key } = server;
    await expect(
      openEtcdStore(`etcds://127.0.0.1:${server.port}?ca=${ca}&cert=${cert}&key=${key}`),
    ).rejects.toMatchObject({
      code: "invalid",
      hint: expect.stringContaining("as the certificate names it"),
    });
  });
});
