import { DisposeStack, UnavailableError } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { prettyLine } from "../src/log.ts";
import { loggedError, redactor } from "../src/redaction.ts";
import { finish, Running } from "./support/command.ts";
import { Hub } from "./support/hub.ts";

describe("a line of the log", () => {
  it("has no secret of the environment or of the store's URL, however it got there", () => {
    const env = {
      VOLCENGINE_SECRET_ACCESS_KEY: 'sk+"quoted"\\',
      SOME_TOKEN: "tok.en",
      PATH: "/usr/bin",
      PASSWORD_FILE: "/etc/secret",
      SHORT_PASSWORD: "in",
    };
    const redact = redactor(env, "etcd://root:p%40ss@a:1,b:2/x");
    const line = JSON.stringify({
      msg: `p@ss p%40ss tok.en tokxen ${env.VOLCENGINE_SECRET_ACCESS_KEY} /usr/bin /etc/secret in`,
      url: "redis://user:other@h:1/2",
      header: "Authorization: Bearer abc.def-ghi",
    });
    expect(JSON.parse(redact(line))).toEqual({
      msg: "[secret] [secret] [secret] tokxen [secret] /usr/bin /etc/secret in",
      url: "redis://user:[secret]@h:1/2",
      header: "Authorization: Bearer [secret]",
    });
  });

  it("has of an error what tells what happened, not the request that a client hung on it", () => {
    const request = { headers: { authorization: "abc" }, body: "def" };
    const cause = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED", request });
    const error = new UnavailableError("the store does not answer", { outcome: "none", cause, hint: "wait" });
    expect(loggedError(error)).toEqual({
      type: error.name,
      message: "the store does not answer",
      code: "unavailable",
      hint: "wait",
      cause: { type: "Error", message: "connect ECONNREFUSED", code: "ECONNREFUSED" },
    });
    // The stack is for what nobody expected.
    expect(loggedError(new TypeError("x is undefined"))).toHaveProperty("stack");
    expect(loggedError(Object.assign(new Error("ENOENT"), { syscall: "open" }))).not.toHaveProperty("stack");
  });

  it("is made readable for a terminal", () => {
    const time = "2026-07-01T10:11:12.345Z";
    expect(
      prettyLine(JSON.stringify({ level: "info", time, mac: "52:54", n: 3, msg: "lease granted" })),
    ).toBe("10:11:12.345 INFO  lease granted  mac=52:54  n=3\n");
    expect(
      prettyLine(JSON.stringify({ level: "error", time, err: { message: "no" }, msg: "it failed" })),
    ).toBe("10:11:12.345 ERROR it failed  error=no\n");
  });
});

it("everything that is logged and printed at trace level has none of the planted secrets", {
  timeout: 180_000,
}, async () => {
  const planted = ["PLANTEDstore1", "PLANTEDwrong2", "AKTEST", "SKTEST", "PLANTEDtoken3"];
  await using parts = new DisposeStack();
  const hub = parts.use(await Hub.create());
  const address = new URL(await hub.call("startServer", "redis")).host;
  const [host = "", port = ""] = address.split(":");
  await hub.exec("redis-cli", "-h", host, "-p", port, "config", "set", "requirepass", "PLANTEDstore1");
  const { api, region } = await hub.call("startCloud");
  const node = await hub.node();
  Object.assign(node.env, {
    COCOON_NET_VOLCENGINE_ENDPOINT: api,
    COCOON_NET_METADATA_ENDPOINT: await hub.call("addInstance", "i-n1", node.namespace.name),
    VOLCENGINE_ACCESS_KEY_ID: "AKTEST",
    VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST",
    VOLCENGINE_SESSION_TOKEN: "PLANTEDtoken3",
    VOLCENGINE_REGION: region,
    COCOON_NET_LOG_LEVEL: "trace",
    COCOON_NET_DEBUG: "1",
    // With its errors cut short the test would see less than an operator.
    NODE_OPTIONS: "--stack-trace-limit=50",
  });
  const right = `redis://:PLANTEDstore1@${address}`;
  const wrong = `redis://:PLANTEDwrong2@${address}`;
  const said: string[] = [];
  const run = async (...args: string[]): Promise<void> => {
    const { code, stdout, stderr } = await finish(node.argv(args), { env: node.environment });
    said.push(`${code} ${stdout}${stderr}`);
  };

  const init = node.setUpArgs("init", "--platform", "volcengine", "--pool-size", "20");
  const cluster = ["--parent-cidr", "172.20.0.0/16"];
  await run(...init, "--store", wrong, ...cluster);
  await run(...init, "--store", right, ...cluster);
  const daemon = await node.daemon("--store", right, "--controller");
  await daemon.says("the subnet is ours");
  const guest = await node.guest();
  const ip = await guest.boot();
  await daemon.says("lease granted");
  const granted = daemon.output.split("\n").find((line) => line.includes("lease granted")) ?? "{}";
  expect(JSON.parse(granted)).toMatchObject({
    node: "n1",
    mac: guest.mac,
    ip,
    latencyMs: expect.any(Number),
  });
  said.push(await node.metrics());
  await run("status", "--state-dir", node.path("state"));
  await run("doctor", "--state-dir", node.path("state"), "--store", right);
  await run("cluster", "nodes", "--store", wrong);
  await run("--config", "/none", "cluster", "nodes", "--store", right);
  // The store's password changes under the daemon's feet, and it starts again with a wrong one.
  await hub.exec(
    "redis-cli",
    "-h",
    host,
    "-p",
    port,
    "-a",
    "PLANTEDstore1",
    "client",
    "kill",
    "type",
    "normal",
  );
  await daemon.kill();
  const refused = parts.use(
    new Running("daemon", node.argv(node.daemonArgs("--store", wrong)), {
      ...node.environment,
      COCOON_NET_LOG_FORMAT: "pretty",
    }),
  );
  await refused.says(/WARN|ERROR/);
  await refused.kill();

  const all = [...said, daemon.output, refused.output].join("\n");
  expect(all).toContain("WRONGPASS");
  expect(all.length).toBeGreaterThan(2_000);
  for (const secret of planted) expect(all).not.toContain(secret);
});
