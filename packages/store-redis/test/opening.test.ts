import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AuthError,
  CocoonError,
  describeError,
  ExhaustedError,
  InvalidError,
  UnavailableError,
} from "@cocoon-net/core";
import { openRedisStore, redisDriver } from "@cocoon-net/store-redis";
import { freePort, startRedis, until, WatchLog } from "@cocoon-net/store-testkit";
import { afterAll, beforeAll, describe, it } from "vitest";
import { redisCli } from "./redis-cli.ts";

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "store-redis-"));
});

afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** The error that opening ends with, which must be one line. */
async function refusal(url: string): Promise<CocoonError> {
  const error = await openRedisStore(url).then(
    async (store) => {
      await store[Symbol.asyncDispose]();
      return undefined;
    },
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CocoonError, `${url} was opened, or failed with ${error}`);
  assert.doesNotMatch(describeError(error), /\n|hunter2/);
  return error;
}

describe("store URLs", () => {
  it("have four schemes", () => {
    assert.deepEqual(redisDriver.schemes, ["redis", "rediss", "redis+sentinel", "redis+cluster"]);
  });

  it.each([
    ["redis://", /no host/],
    ["redis://h1,h2", /several hosts/],
    ["redis://h?tls=true", /does not know the parameter "tls"/],
    ["redis://h?ca=/x", /does not know the parameter "ca"/],
    ["redis://h?db=one", /db "one" is not a number/],
    ["redis://h?history=5", /history 5/],
    ["redis://h?wait=one", /wait "one" is not a number/],
    ["redis://h/{tag}", /prefix/],
    ["rediss://h?ca=/does/not/exist", /file \/does\/not\/exist of ca cannot be read/],
    ["rediss://h?cert=/dev/null", /only one of cert and key/],
    ["redis+sentinel://h1,h2", /primary's name is missing/],
    ["redis+sentinel://h1/m?ca=/dev/null", /not TLS/],
    ["redis+sentinel://h1/m?tls=maybe", /tls is "maybe"/],
    ["redis+cluster://h1?db=1", /does not know the parameter "db"/],
  ])("%s is refused", async (url, message) => {
    const error = await refusal(url);
    assert.ok(error instanceof InvalidError);
    assert.match(error.message, message);
  });

  it("choose the database and the prefix", async () => {
    await using server = await startRedis();
    await using store = await openRedisStore(`redis://127.0.0.1:${server.port}/other/prefix?db=3`);
    await store.txn({ then: [{ put: "k", value: "v" }] });
    assert.equal(await redisCli(server, "-n", "3", "hget", "/other/prefix", "k"), "v");
    assert.equal(await redisCli(server, "dbsize"), "0");
    assert.equal(store.label, `redis://127.0.0.1:${server.port}/other/prefix?db=3`);
  });
});

/** The least that the README lists. */
const permissions = [
  "resetkeys",
  "~/cocoon-net",
  "~{/cocoon-net}#*",
  "&{/cocoon-net}#*",
  "-@all",
  ..."+eval +evalsha +info +time +type +wait +xadd +xrange +xtrim +hget +hmget +hset +hdel".split(" "),
  ..."+zadd +zrem +zscore +zrange +zrangebylex +zrangebyscore +client|setname".split(" "),
  ..."+ssubscribe +sunsubscribe +spublish +pubsub|shardnumsub".split(" "),
];

describe("what a server gives", () => {
  it.each([
    [{ appendonly: true, appendfsync: "always" }, /on the server's disk before its answer/, true],
    [{ appendonly: true, appendfsync: "everysec" }, /within about two seconds/, true],
    [{}, /nothing survives/, false],
    [{ extraArgs: ["--save", "60 1"] }, /only snapshots are kept \(save 60 1\)/, false],
  ] as const)("%o is said, and whether it can be trusted", async (options, durability, trustworthy) => {
    await using server = await startRedis(options);
    await using store = await openRedisStore(`redis://127.0.0.1:${server.port}`);
    assert.match(store.capabilities.durability, durability);
    assert.equal(store.capabilities.trustworthy, trustworthy);
    assert.match(store.capabilities.server, /^(Redis|Valkey) \d+\./);
  });

  it("is said to be unknown where CONFIG is not permitted; the documented permissions are enough", async () => {
    await using server = await startRedis({ appendonly: true });
    await redisCli(server, "acl", "setuser", "agent", "on", ">hunter2", ...permissions);
    await using store = await openRedisStore(`redis://agent:hunter2@127.0.0.1:${server.port}?history=100`);
    assert.match(store.capabilities.durability, /unknown: CONFIG is not permitted/);
    await using session = await store.session(2_000);
    const keys = Array.from({ length: 100 }, (_, at) => `k/${at}`);
    await store.txn({ then: keys.map((put) => ({ put, value: "v", session })) });
    await store.txn({ then: keys.map((put) => ({ put, value: "v" })) });
    await store.txn({ then: keys.map((key) => ({ delete: key })) });
    assert.equal(await redisCli(server, "xlen", "{/cocoon-net}#changes"), "1", "the stream was cut");
    assert.deepEqual((await store.list("")).entries, []);
    assert.match(await store.incarnation(), /./);
    const stop = new AbortController();
    const seen: string[] = [];
    for await (const batch of store.watch("", { signal: stop.signal })) {
      seen.push(batch.type);
      if (batch.type === "changes") stop.abort();
      else await store.txn({ then: [{ put: "l", value: "v" }] });
    }
    assert.deepEqual(seen, ["snapshot", "changes"]);
  });
});

describe("a server that cannot be used is refused in one line", () => {
  it("when it evicts keys", async () => {
    await using server = await startRedis({ extraArgs: ["--maxmemory-policy", "allkeys-lru"] });
    const error = await refusal(`redis://127.0.0.1:${server.port}`);
    assert.ok(error instanceof InvalidError);
    assert.match(
      describeError(error),
      /maxmemory-policy is allkeys-lru.*config set maxmemory-policy noeviction/,
    );
  });

  it("when it is no sentinel, or has no such database", async () => {
    await using server = await startRedis();
    assert.match(
      describeError(await refusal(`redis+sentinel://127.0.0.1:${server.port}/main`)),
      /no sentinel answers there; name the sentinels/,
    );
    assert.match(
      describeError(await refusal(`redis://127.0.0.1:${server.port}?db=99`)),
      /DB index is out of range; the server has fewer databases/,
    );
  });

  it("when nobody listens", async () => {
    const startedAt = performance.now();
    const error = await refusal(`redis://127.0.0.1:${await freePort()}`);
    assert.ok(error instanceof UnavailableError);
    assert.equal(error.outcome, "none");
    assert.match(error.message, /ECONNREFUSED/);
    assert.ok(performance.now() - startedAt < 4_000, "at once, not at the deadline");
  });

  it("when it takes connections and says nothing", async () => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    try {
      const address = silent.address();
      assert.ok(typeof address === "object" && address !== null);
      const opening = openRedisStore(`redis://127.0.0.1:${address.port}`, { timeoutMs: 500 });
      await assert.rejects(opening, (error) => error instanceof UnavailableError && error.outcome === "none");
    } finally {
      silent.close();
    }
  });

  it("when it wants a password, or another one", async () => {
    await using server = await startRedis({ extraArgs: ["--requirepass", "secret"] });
    for (const credentials of ["", ":hunter2@", "nobody:hunter2@"]) {
      assert.ok((await refusal(`redis://${credentials}127.0.0.1:${server.port}`)) instanceof AuthError);
    }
    const file = join(directory, "password");
    writeFileSync(file, "secret\n");
    await using store = await openRedisStore(`redis://127.0.0.1:${server.port}?password-file=${file}`);
    assert.doesNotMatch(store.label, /secret/);
  });

  it("when the user lacks a permission", async () => {
    await using server = await startRedis();
    await redisCli(server, "acl", "setuser", "half", "on", ">hunter2", "~*", "+@all", "-info");
    const noInfo = await refusal(`redis://half:hunter2@127.0.0.1:${server.port}`);
    assert.ok(noInfo instanceof AuthError, describeError(noInfo));
    await redisCli(server, "acl", "setuser", "half", "+info", "-xadd");
    await using store = await openRedisStore(`redis://half:hunter2@127.0.0.1:${server.port}`);
    await assert.rejects(store.txn({ then: [{ put: "k", value: "v" }] }), AuthError);
    assert.equal(
      await redisCli(server, "exists", "/cocoon-net", "{/cocoon-net}#index"),
      "0",
      "nothing half-written",
    );
    await redisCli(server, "acl", "setuser", "half", "+xadd", "-xtrim");
    await using bounded = await openRedisStore(`redis://half:hunter2@127.0.0.1:${server.port}?history=100`);
    const then = Array.from({ length: 100 }, (_, at) => ({ put: `k/${at}`, value: "v" }));
    const { revision } = await bounded.txn({ then });
    await assert.rejects(bounded.txn({ then }), AuthError);
    await redisCli(server, "acl", "setuser", "half", "+xtrim");
    assert.equal((await bounded.txn({ then })).revision, revision + 1);
  });

  it("when another version has laid out what is there", async () => {
    await using server = await startRedis();
    await redisCli(server, "hset", "/cocoon-net", "subnets/n1", '1 1 "172.20.0.0/24"');
    const state = ["hset", "{/cocoon-net}#state"];
    await redisCli(server, ...state, "era", "1.1", "revision", "1");
    for (const layout of ["1", "2"]) {
      if (layout !== "1") await redisCli(server, ...state, "layout", layout);
      const old = await refusal(`redis://127.0.0.1:${server.port}`);
      assert.ok(old instanceof InvalidError);
      assert.match(
        old.message,
        new RegExp(`written by another version of this program \\(layout ${layout}, not 3\\)`),
      );
    }
    await using other = await openRedisStore(`redis://127.0.0.1:${server.port}/other`);
    await other[Symbol.asyncDispose]();
    await using again = await openRedisStore(`redis://127.0.0.1:${server.port}/other`);
    assert.deepEqual((await again.list("")).entries, []);
  });

  it("when another program uses the prefix", async () => {
    await using server = await startRedis();
    await redisCli(server, "set", "/cocoon-net", "mine");
    const taken = await refusal(`redis://127.0.0.1:${server.port}`);
    assert.ok(taken instanceof InvalidError);
    assert.match(describeError(taken), /choose another prefix/);
  });

  it("when it is a replica", async () => {
    await using primary = await startRedis();
    await using replica = await startRedis({ extraArgs: ["--replicaof", "127.0.0.1", String(primary.port)] });
    await until("the replica to have synchronised", 20_000, async () =>
      (await redisCli(replica, "info", "replication")).includes("master_link_status:up"),
    );
    const error = await refusal(`redis://127.0.0.1:${replica.port}`);
    assert.ok(error instanceof UnavailableError);
    assert.match(describeError(error), /READONLY.*name the primary/);
  });

  it("when it is a node of a cluster", async () => {
    const bus = String(await freePort());
    await using server = await startRedis({ extraArgs: ["--cluster-enabled", "yes", "--cluster-port", bus] });
    const error = await refusal(`redis://127.0.0.1:${server.port}`);
    assert.match(describeError(error), /redis\+cluster|CLUSTERDOWN/);
  });
});

describe("TLS", () => {
  it("is spoken with the given files, and what does not fit is refused with a hint", async () => {
    const [ca, cert, key] = ["ca.crt", "server.crt", "server.key"].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ];
    makeCertificates(directory);
    const port = await freePort();
    await using server = await startRedis({
      extraArgs: [
        "--tls-port",
        String(port),
        "--tls-ca-cert-file",
        ca,
        "--tls-cert-file",
        cert,
        "--tls-key-file",
        key,
      ],
    });
    const files = `ca=${ca}&cert=${cert}&key=${key}`;
    await using store = await openRedisStore(`rediss://127.0.0.1:${port}?${files}`);
    await store.txn({ then: [{ put: "k", value: "v" }] });

    const hints: [string, RegExp][] = [
      [`rediss://127.0.0.1:${port}`, /check the parameters ca/],
      [`rediss://127.0.0.1:${port}?ca=${ca}`, /client certificate/],
      [`rediss://127.0.0.1:${port}?${files}&servername=other`, /servername/],
    ];
    for (const [url, hint] of hints) {
      const error = await refusal(url);
      assert.ok(error instanceof InvalidError, `${url}: ${describeError(error)}`);
      assert.match(describeError(error), hint);
    }
    // With a user of few permissions and a database of its own, calls and watches alike.
    await redisCli(server, "acl", "setuser", "agent", "on", ">hunter2", ...permissions, "+select");
    await using limited = await openRedisStore(`rediss://agent:hunter2@127.0.0.1:${port}?${files}&db=5`);
    await using log = new WatchLog(limited, "w/");
    await log.until("the snapshot", 5_000, ({ batches }) => batches.length > 0);
    await limited.txn({ then: [{ put: "w/1", value: "v" }] });
    await log.until("the change", 5_000, ({ state }) => state.size === 1);
    assert.equal(await redisCli(server, "-n", "5", "hget", "/cocoon-net", "w/1"), "v");
    assert.equal((await store.get("w/1")).entry, undefined);

    // Redis neither answers nor closes when it is spoken to in the wrong way, so that this cannot be told from an outage.
    assert.match(describeError(await refusal(`rediss://127.0.0.1:${server.port}?${files}`)), /use redis:/);
    assert.match(describeError(await refusal(`redis://127.0.0.1:${port}`)), /use rediss:/);
  });
});

describe("a full server", () => {
  it("refuses puts and sessions as exhausted, and still reads, deletes and keeps sessions alive", async () => {
    await using server = await startRedis();
    await using store = await openRedisStore(`redis://127.0.0.1:${server.port}`);
    await using session = await store.session(5_000);
    await store.txn({ then: [{ put: "k", value: "v", session }] });
    await redisCli(server, "config", "set", "maxmemory", "1000");
    await assert.rejects(store.txn({ then: [{ put: "l", value: "v" }] }), ExhaustedError);
    await assert.rejects(store.session(1_000), ExhaustedError);
    assert.equal((await store.get("k")).entry?.value, "v");
    const deadline = await redisCli(server, "zscore", "{/cocoon-net}#sessions", session.id);
    await until("a renewal", 15_000, async () => {
      return (await redisCli(server, "zscore", "{/cocoon-net}#sessions", session.id)) !== deadline;
    });
    await store.txn({ then: [{ delete: "k" }] });
    assert.equal((await store.get("k")).entry, undefined);
  });
});

/** A CA, and a certificate for 127.0.0.1 that it signed, for the server and for clients. */
function makeCertificates(into: string): void {
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: into, stdio: "pipe" });
  const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
  openssl(...request, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test CA");
  openssl(
    ...request,
    ...[
      "-keyout",
      "server.key",
      "-out",
      "server.crt",
      "-subj",
      "/CN=server",
      "-CA",
      "ca.crt",
      "-CAkey",
      "ca.key",
    ],
    ...["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"],
  );
}
