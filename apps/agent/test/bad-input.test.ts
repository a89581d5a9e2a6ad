import { appendFile, chmod, readdir, readFile, stat } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { AgentNode } from "./support/agent-node.ts";
import { type Finished, finish, Running } from "./support/command.ts";
import { Hub } from "./support/hub.ts";
import { runCommand } from "./support/run-command.ts";

const subnet = ["--subnet", "10.99.0.0/24"];

/** That a command failed with that exit code and said why in one line, without a stack. */
function expectOneLine(result: Finished, code: number, pattern: RegExp): void {
  expect(result.stderr).toMatch(/^cocoon-net: [^\n]+\n$/);
  expect(result.stderr).toMatch(pattern);
  expect(result.stderr).not.toMatch(/\s{2,}at /);
  expect(result.code).toBe(code);
}

async function expectUntouched(node: AgentNode): Promise<void> {
  expect(await readdir(node.directory)).toEqual([]);
  expect(await node.namespace.ip("link")).not.toContain("cni0");
}

const pool = {
  platform: "gke",
  nodeName: "n1",
  subnet: "10.99.0.0/24",
  gateway: "10.99.0.1",
  ips: ["10.99.0.2", "10.99.0.3"],
  dnsServers: ["8.8.8.8"],
  updatedAt: "2026-07-01T00:00:00Z",
};

const mac = "52:54:00:00:00:07";

describe("bad input", { timeout: 180_000 }, () => {
  it("of adopt is told in one line, and nothing is touched", async () => {
    await using node = await AgentNode.create();
    const cases: [args: string[], code: number, pattern: RegExp][] = [
      [["--subnet", "10.99.0.1/24"], 2, /10\.99\.0\.1\/24.*10\.99\.0\.0\/24/],
      [["--subnet", "10.99.0.0/33"], 2, /10\.99\.0\.0\/33/],
      [["--subnet", "fd00::/64"], 2, /fd00::\/64/],
      [["--subnet", "10.99.0.0/31"], 2, /no room for VMs/],
      [["--subnet", "lots"], 2, /'--subnet <cidr>': CIDR "lots" is not an IPv4 block/],
      [[...subnet, "--gateway", "10.98.0.1"], 2, /--gateway 10\.98\.0\.1 is not a host address of/],
      [[...subnet, "--gateway", "10.99.0.255"], 2, /--gateway 10\.99\.0\.255 is not a host address of/],
      [[...subnet, "--pool-size", "0"], 2, /'--pool-size <count>': it must be at least 1/],
      [[...subnet, "--pool-size", "many"], 2, /'--pool-size <count>'.*"many" is not a whole number/],
      [[...subnet, "--dns", "8.8.8.8,dns.google"], 2, /--dns.*dns\.google/],
      [[...subnet, "--drop-cidr", "10.0.0.0/40"], 2, /--drop-cidr.*10\.0\.0\.0\/40/],
      [[], 2, /--subnet is missing; name the node's block, or give --store/],
      [["--gateway", "10.99.0.1", "--store", "zk://a"], 1, /unknown store scheme "zk:".*etcd/],
      [["--store", "etcd://127.0.0.1:1?colour=red"], 2, /does not know the parameter "colour"/],
      [["--store", "redis://127.0.0.1:1?colour=red"], 2, /does not know the parameter "colour"/],
      [["--store", "etcd://127.0.0.1:99999"], 2, /malformed host/],
      [["--store", "nonsense"], 2, /'--store <url>': store URL "nonsense" is not of the form/],
      [["--store", "etcd://127.0.0.1:1"], 1, /127\.0\.0\.1:1.*; check that etcd runs there/],
      [["--store", "redis://127.0.0.1:1"], 1, /127\.0\.0\.1:1; check host and port/],
      [
        ["--store", "etcd://127.0.0.1:1", "--node-name", "a/b"],
        2,
        /node name "a\/b" is not a host name; use/,
      ],
      [[...subnet, "--node-name", ""], 2, /node name "" is not a host name; use/],
      [[...subnet, "--platform", "azure"], 2, /platform "azure" has no default --primary-nic/],
      [[...subnet, "--colour", "red"], 2, /unknown option '--colour'; --help lists the options/],
    ];
    for (const [args, code, pattern] of cases) {
      expectOneLine(await node.run(...node.setUpArgs("adopt", ...args)), code, pattern);
    }
    expectOneLine(await node.run("adopt", ...subnet), 2, /'--node-name <name>' not specified/);
    expectOneLine(await node.run("adpot"), 2, /unknown command 'adpot'.*adopt/);
    expectOneLine(await node.run("cluster", "nodes"), 2, /'--store <url>' not specified/);
    const wrong = ["cluster", "nodes", "--store", "etcd://127.0.0.1:1"];
    expectOneLine(await node.run(...wrong, "-o", "xml"), 2, /"xml" is not table, json or yaml/);
    // A password is not shown, wherever the URL comes from.
    node.env.COCOON_NET_STORE = "etcd://root:hush@hush@127.0.0.1/";
    const secret = await node.run("cluster", "nodes");
    expectOneLine(secret, 2, /'--store <url>' from env 'COCOON_NET_STORE': store URL is not of the form/);
    expect(secret.stderr).not.toContain("hush");
    await expectUntouched(node);
  });

  it("of the commands for the cluster is a usage error before any store is asked", async () => {
    const store = ["--store", "etcd://127.0.0.1:1"];
    const cases: [args: string[], pattern: RegExp][] = [
      [["cluster", "ip", "10.0.0"], /argument 'address': address "10\.0\.0" is not an IPv4 address/],
      [["cluster", "subnet", "10.0.0.1/24"], /'subnet\|node': .* did you mean 10\.0\.0\.0\/24\?/],
      [["cluster", "leases", "--subnet", "x"], /'--subnet <cidr>': CIDR "x" is not/],
      [["cluster", "migrate", "--ip", "x", "--to", "n2"], /'--ip <address>': address "x" is not/],
      [["cluster", "migrate", "--ip", "10.0.0.1"], /^--to is missing/],
      [["cluster", "migrate", "--to", "n2"], /^name the guest by --ip or by --vm/],
      [["cluster", "migrate", "--cancel"], /^--cancel needs --ip/],
      [["cluster", "init", "--parent-cidr", "10.0.0.0/25"], /^node prefix \/24 does not fit/],
      [
        ["cluster", "init", "--parent-cidr", "10.0.0.0/16", "--reserve", "10.1.0.0/24"],
        /^the reserved block 10\.1\.0\.0\/24 is outside 10\.0\.0\.0\/16; name blocks/,
      ],
      [["cluster", "init", "--parent-cidr", "10.0.0.0"], /'--parent-cidr <cidr>': CIDR/],
      [["cluster", "init", "--parent-cidr", "10.0.0.0/16", "--lease-time", "0s"], /^cluster config: leaseMs/],
    ];
    for (const [args, pattern] of cases) {
      const { failure, code } = await runCommand([...args, ...store]);
      expect({ args, code, failure: failure?.replace("cocoon-net: ", "") }).toEqual({
        args,
        code: 2,
        failure: expect.stringMatching(pattern),
      });
    }
    const copy = await runCommand(["store", "copy", "--from", "etcd://127.0.0.1:1", "--to", "memory:"]);
    expect(copy).toMatchObject({
      code: 2,
      failure: expect.stringMatching(/^cocoon-net: option '--to <url>': memory: ends with this command/),
    });
    const inMemory = ["cluster", "init", "--parent-cidr", "10.0.0.0/16", "--store", "memory:"];
    expect(await runCommand(inMemory)).toMatchObject({
      code: 2,
      failure: expect.stringMatching(/'--store <url>': memory: ends with this command.*; name a server/),
    });
    // What is misspelt is told before what is missing.
    expect(await runCommand(["cluster", "nodes", "--stor", "x"])).toMatchObject({
      code: 2,
      failure: expect.stringMatching(/unknown option '--stor' \(Did you mean --store\?\)/),
    });
    expect((await runCommand(["config", "explain", "deamon"])).code).toBe(2);
    expect((await runCommand(["cluster", "nodes", ...store])).code).toBe(1);
    expect((await runCommand(["cluster", "nodes", "--help"])).code).toBe(0);
  });

  it("of the daemon is told in one line", async () => {
    await using node = await AgentNode.create();
    const daemon = (...more: string[]): Promise<Finished> => node.run(...node.daemonArgs(...more));
    expectOneLine(await daemon(), 1, /pool\.json does not exist: this node is not set up; run/);
    expectOneLine(await daemon("--lease-source", "kea"), 2, /--lease-source "kea" is neither/);
    expectOneLine(await daemon("--lease-source", "file:/x"), 2, /does nothing without a store/);
    expectOneLine(await daemon("--session-ttl", "soon"), 2, /"soon" is not a duration/);
    expectOneLine(await daemon("--session-ttl", "0s"), 2, /"0s" is too short; it must be at least 1s/);
    expectOneLine(await daemon("--store", "zk://a"), 1, /unknown store scheme/);
    await expectUntouched(node);

    await node.write("state/pool.json", pool);
    expectOneLine(await daemon("--metrics-addr", "9092"), 2, /metrics address "9092" is not host:port/);
    node.env.COCOON_NET_LOG_LEVEL = "loud";
    expectOneLine(await daemon(), 2, /'--log-level <level>' from env .*: log level "loud" is not a level/);
    node.env.COCOON_NET_LOG_LEVEL = "error";
    expectOneLine(await daemon("--pid-file", node.path("no/such.pid")), 1, /pid file .* cannot be written/);
    const leaseFile = (path: string): Promise<Finished> => daemon("--lease-file", node.path(path));
    expectOneLine(await leaseFile("state"), 1, /state is not a regular file: it is left alone; name another/);
    expectOneLine(await leaseFile("no/l.json"), 1, /no\/l\.json cannot be written: ENOENT.*; make .*\/no,/);
    await node.write("config.yaml", `dhcp:\n  reservations: [{ mac: "${mac}", address: 10.98.0.7 }]\n`);
    expectOneLine(
      await node.run("--config", node.path("config.yaml"), ...node.daemonArgs()),
      1,
      /config\.yaml:1: reservation for 52:54:00:00:00:07 \(10\.98\.0\.7\) is not in subnet 10\.99\.0\.0\/24/,
    );
    await node.write("state/pool.json", { ...pool, ips: ["10.98.0.7"] });
    expectOneLine(await daemon(), 1, /address 10\.98\.0\.7 is outside 10\.99\.0\.0\/24/);
    await node.write("state/pool.json", pool);
    await node.write("state/registration.json", { node: "n1", uid: "u", store: "etcd://a:2379" });
    expectOneLine(await daemon(), 1, /node n1 is registered in etcd:\/\/a:2379; give its --store URL/);
    expectOneLine(await node.run(...node.setUpArgs("adopt", ...subnet)), 1, /belongs to a cluster/);
    const mine = { node: "n1", uid: "u", store: "x", subnet: "10.1.0.0/24", epoch: 3 };
    await node.write("state/registration.json", mine);
    expectOneLine(await daemon("--store", "etcd://a:2379"), 1, /registered with 10\.1\.0\.0\/24; run init/);
    expect(await readdir(node.path("state"))).toEqual(["pool.json", "registration.json"]);
    expect(await node.namespace.ip("link")).not.toContain("cni0");
  });

  it("of damaged files is told, and the damaged file is kept", async () => {
    await using node = await AgentNode.create();
    const daemon = (...more: string[]): Promise<Finished> => node.run(...node.daemonArgs(...more));
    await node.adopt(...subnet);
    node.env.COCOON_NET_LOG_LEVEL = "error";
    for (const [damaged, pattern] of [
      ['{"platform": "gke"', /state\/pool\.json is not valid JSON .*nothing was changed/],
      [JSON.stringify({ ...pool, subnet: "10.99.0.0" }), /state\/pool\.json: subnet: .*nothing was changed/],
    ] as const) {
      await node.write("state/pool.json", damaged);
      expectOneLine(await daemon(), 1, pattern);
      expectOneLine(await node.run("teardown", "--state-dir", node.path("state")), 1, pattern);
      expect(await readFile(node.path("state/pool.json"), "utf8")).toBe(damaged);
    }
    const again = await node.run(...node.setUpArgs("adopt", ...subnet));
    expect(again).toMatchObject({ code: 0, stderr: expect.stringMatching(/kept as .*pool\.json\.corrupt-/) });
    const kept = (await readdir(node.path("state"))).find((name) => name.includes("corrupt")) ?? "";
    expect(await readFile(node.path(`state/${kept}`), "utf8")).toContain('"10.99.0.0"');

    await node.write("state/registration.json", "{}");
    expectOneLine(await daemon("--store", "etcd://a"), 1, /registration\.json: node: /);
    await node.namespace.exec("rm", node.path("state/registration.json"));
    await node.write("state/job.json", "[");
    expectOneLine(
      await node.run("teardown", "--state-dir", node.path("state")),
      1,
      /job\.json is not valid JSON/,
    );
    await node.namespace.exec("rm", node.path("state/job.json"));

    await node.write("leases.json", '[{"mac": "52:54:0');
    expectOneLine(await daemon(), 1, /leases\.json is not JSON; it was kept as .*leases\.json\.corrupt-/);
    await node.write("state/leases.journal", "nonsense\n");
    expectOneLine(await daemon(), 1, /leases\.journal cannot be read: .*kept as .*\.corrupt-/);
    // What is left is enough to go on with.
    node.env.COCOON_NET_LOG_LEVEL = "info";
    const serving = await node.daemon();
    const guest = await node.guest();
    const address = await guest.boot();
    await serving.kill("SIGKILL");
    await appendFile(node.path("state/leases.journal"), '0badc0de [{"state":"leas');
    const cut = await node.daemon();
    expect(cut.output).toContain("ended in a torn record, which was cut off");
    expect(await guest.renew()).toBe(address);
  });

  it("of the surroundings is told in one line", async () => {
    await using node = await AgentNode.create();
    await node.write("state/pool.json", pool);
    await chmod(node.directory, 0o755);
    const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const as = (prefix: readonly string[], args: readonly string[]): Promise<Finished> =>
      finish(node.argv(args, prefix), { env: node.environment });
    node.env.COCOON_NET_LOG_LEVEL = "error";
    for (const args of [node.setUpArgs("adopt", ...subnet), node.daemonArgs()]) {
      expectOneLine(await as(nobody, args), 1, /must run as root; use sudo/);
    }
    expect((await as(nobody, ["status", "--state-dir", node.path("state")])).code).toBe(0);

    const readOnly = ["sh", "-c", `mount -t tmpfs -o ro none ${node.path("state")} && exec "$@"`, "sh"];
    expectOneLine(
      await as(readOnly, node.setUpArgs("adopt", ...subnet)),
      1,
      /state\/pool\.json cannot be written: EROFS.*; name a directory that can be written/,
    );
    await node.write("file", "");
    const below = node.setUpArgs("adopt", ...subnet, "--state-dir", node.path("file/state"));
    expectOneLine(await node.run(...below), 1, /state directory .*file\/state cannot be made: ENOTDIR/);
    await node.namespace.ip("link", "add", "cni0", "type", "veth", "peer", "name", "other");
    expectOneLine(await node.run(...node.daemonArgs()), 1, /cni0.*bridge/);
    expectOneLine(
      await node.run("init", ...node.setUpArgs("init", ...subnet).slice(1)),
      1,
      /metadata server at .* does not answer; run this on a Compute Engine instance/,
    );
    // Nobody's metadata answers in a namespace without a network.
    const args = node.setUpArgs("adopt", ...subnet).filter((word) => word !== "--platform" && word !== "gke");
    expectOneLine(await node.run(...args), 1, /no instance metadata service answers here.*--platform/);
  });

  it("of a second daemon is told in one line, and the first one goes on", async () => {
    await using node = await AgentNode.create();
    await node.adopt(...subnet);
    const daemon = await node.daemon();
    node.env.COCOON_NET_LOG_LEVEL = "error";
    const second = await node.run(...node.daemonArgs());
    expectOneLine(
      second,
      1,
      new RegExp(`another cocoon-net daemon is running \\(pid ${daemon.pid}\\); stop it`),
    );
    expectOneLine(await node.run(...node.setUpArgs("adopt", ...subnet)), 1, /the daemon is running/);
    const journal = await stat(node.path("state/leases.journal"));
    const other = await node.run(...node.daemonArgs("--pid-file", node.path("other.pid")));
    expectOneLine(
      other,
      1,
      new RegExp(`UDP port 67 on cni0 is in use by cocoon-net\\.js \\(pid ${daemon.pid}`),
    );
    expect((await stat(node.path("state/leases.journal"))).mtimeMs).toBe(journal.mtimeMs);
    expect(await (await node.guest()).boot()).toMatch(/^10\.99\.0\./);
  });
});

describe("a store", { timeout: 180_000 }, () => {
  it("that cannot be used is told in one line, in a few seconds", async () => {
    await using hub = await Hub.create();
    const node = await hub.node();
    const etcd = await hub.call("startServer", "etcd");
    const ask = (url: string): Promise<Finished[]> =>
      Promise.all([
        node.run("cluster", "nodes", "--store", url),
        node.run(...node.setUpArgs("adopt", "--store", url)),
      ]);
    const expectRefused = async (url: string, pattern: RegExp): Promise<void> => {
      // It has ended by itself, and was not killed after a minute: a few seconds where nothing else is running.
      for (const result of await ask(url)) expectOneLine(result, 1, pattern);
    };
    // It may have come before its cluster, or have a wrong prefix: it waits, and says so.
    const controller = node.argv(["controller", "--store", etcd]);
    await using waiting = new Running("controller", controller, node.environment);
    await expectRefused(etcd, /there is no cluster in .*; check the URL's prefix; a new cluster/);
    await waiting.says(/"level":"warn".*there is no cluster in .* yet/);
    await waiting.kill();
    // etcd's port answers neither RESP nor what a web server would.
    await expectRefused(etcd.replace("etcd:", "redis:"), /10\.200\.0\.1/);
    await hub.call("pauseServer");
    await using web = new Running("a web server", [
      ...[...hub.namespace.enter, process.execPath, "-e"],
      `require("node:http").createServer((_, answer) => answer.end("hello")).listen(8000, "10.200.0.1", () => console.log("up"))`,
    ]);
    await web.says("up");
    await node.namespace.ip("neighbour", "add", "10.200.0.99", "lladdr", "02:00:00:00:00:99", "dev", "eth0");
    await Promise.all([
      expectRefused(etcd, /^(?!.*LB pick).*10\.200\.0\.1/), // stopped; gRPC's own doings are no matter of the operator's
      expectRefused("etcd://10.200.0.1:8000", /10\.200\.0\.1:8000/), // speaks something else
      expectRefused("redis://10.200.0.1:8000", /10\.200\.0\.1:8000/),
      expectRefused("etcd://10.200.0.99:2379", /^(?!.*LB pick).*10\.200\.0\.99:2379/), // a black hole
      expectRefused("redis://10.200.0.99:6379", /10\.200\.0\.99:6379/),
    ]);
    expect(await readdir(node.path("state")).catch(() => [])).toEqual([]);
  });
});
