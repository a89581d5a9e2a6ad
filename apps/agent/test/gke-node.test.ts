import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { init, startSimulator } from "./support/cloud-simulator.ts";
import { Running, until } from "./support/command.ts";

const block = "172.20.7.0/24";
const store = "redis://127.0.0.1:6379";

describe("a GKE node", { timeout: 180_000 }, () => {
  it("undoes what Google's guest agent does, and drains when its instance is preempted", async () => {
    await using it = await startSimulator("gce", "--instance", "n1");
    const { node } = it;
    const { namespace } = node;
    const persistent = ["--appendonly", "yes", "--dir", node.directory];
    await using redis = new Running("redis", [...namespace.enter, "redis-server", ...persistent]);
    await redis.says("Ready to accept connections");
    const local = (): Promise<string> => namespace.ip("route", "show", "table", "local", block);
    const interfere = (): Promise<string> =>
      namespace.ip("route", "add", "local", block, "dev", "eth0", "table", "local", "proto", "66");

    await interfere();
    const said = await init(node, "gke", "--store", store, "--parent-cidr", "172.20.0.0/16");
    expect(said).toMatch(/^deleted the local route 172\.20\.7\.0\/24 dev eth0, /m);
    expect(said).toMatch(/^warning: Google's guest agent .* set `ip_aliases = false`/m);
    expect(await local()).toBe("");
    expect(await readFile(node.cronPath("cocoon-net-fix-alias"), "utf8")).toBe(
      `@reboot root ip route del local ${block} dev eth0 table local 2>/dev/null || true\n`,
    );

    await interfere();
    await using daemon = await node.daemon("--store", store);
    expect(await local()).toBe("");
    await daemon.says("the subnet is ours");
    await interfere();
    await until("the route to go", async () => (await local()) === "");
    await until("it to say so", () => daemon.output.match(/deleted the local route/g)?.length === 2);

    await it.instance("n1", "preempt");
    await daemon.says("preempts this instance");
    await daemon.says("nothing new is granted");
    await until("the event", async () => {
      const events = await node.do("cluster", "events", "--store", store);
      return /n1 is about to leave, and grants nothing new: Compute Engine preempts/.test(events);
    });
  });
});
