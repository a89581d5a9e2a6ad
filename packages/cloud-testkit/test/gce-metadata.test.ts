import { GceSimulator, type GceSimulatorOptions } from "@cocoon-net/cloud-testkit";
import { describe, expect, it, onTestFinished } from "vitest";

const flavor = { "metadata-flavor": "Google" };

async function openServer(options: GceSimulatorOptions = {}) {
  const simulator = new GceSimulator({
    secondaryRanges: { pods: "10.4.0.0/16" },
    ...options,
    delays: { instanceMs: 1, ...options.delays },
  });
  onTestFinished(() => simulator[Symbol.asyncDispose]());
  const instance = simulator.addInstance({ name: "n" });
  const { metadata } = await simulator.listen({ metadata: { host: "127.0.0.1", port: 0, instance: "n" } });
  const get = (path: string, headers: Record<string, string> = flavor) =>
    fetch(`${metadata}/computeMetadata/v1/${path}`, { headers });
  const text = async (path: string) => (await get(path)).text();
  return { simulator, instance, get, text };
}

const addPods = (simulator: GceSimulator) =>
  simulator.addAlias("n", { cidr: "10.4.1.0/24", rangeName: "pods" });

describe("the metadata server", () => {
  it("wants its header, and none that tells of a proxy; answers carry it too", async () => {
    const { get } = await openServer();
    expect((await get("instance/name", {})).status).toBe(403);
    expect((await get("instance/name", { ...flavor, "x-forwarded-for": "1.2.3.4" })).status).toBe(403);
    const answer = await get("instance/name");
    expect(answer.headers.get("metadata-flavor")).toBe("Google");
    expect(await answer.text()).toBe("n");
  });

  it("shows the instance, its interface and its project", async () => {
    const { instance, text } = await openServer();
    expect(await text("instance/id")).toBe(instance.id);
    expect(await text("instance/zone")).toMatch(/^projects\/\d+\/zones\/us-central1-a$/);
    expect(await text("project/project-id")).toBe("demo-project");
    expect(await text("instance/network-interfaces/0/ip")).toBe(instance.nic.address);
    expect(await text("instance/network-interfaces/")).toBe("0/\n");
    expect((await text("instance/network-interfaces/0/")).split("\n")).toContain("ip-aliases/");
    expect(await text("instance/network-interfaces/0/?recursive=true")).toContain('"ipAliases":[]');
  });

  it.each(["instance/nope", "instance/network-interfaces/0/subnetwork", "instance/name/x", "x"])(
    "has no %s",
    async (path) => {
      const { get } = await openServer();
      expect((await get(path)).status).toBe(404);
    },
  );

  it("issues tokens that the API takes, until they are revoked", async () => {
    const { simulator, get } = await openServer();
    const { api } = await simulator.listen({ api: { host: "127.0.0.1", port: 0 } });
    const call = async () => {
      const issued = await (await get("instance/service-accounts/default/token")).text();
      const token = /"access_token":"([^"]+)"/.exec(issued)?.[1];
      const headers = { authorization: `Bearer ${token}` };
      return () => fetch(`${api}/compute/v1/projects/demo-project/aggregated/instances`, { headers });
    };
    const first = await call();
    expect((await first()).status).toBe(200);
    simulator.revokeTokens();
    expect((await first()).status).toBe(401);
    expect((await (await call())()).status).toBe(200);
    const narrow = "https://www.googleapis.com/auth/devstorage.read_only";
    const token = await (await get(`instance/service-accounts/default/token?scopes=${narrow}`)).text();
    const headers = { authorization: `Bearer ${/"access_token":"([^"]+)"/.exec(token)?.[1]}` };
    const refused = await fetch(`${api}/compute/v1/projects/demo-project/aggregated/instances`, { headers });
    expect(refused.status).toBe(403);
  });

  it("tells of an alias that has come, after its lag", async () => {
    const { simulator, get, text } = await openServer({ delays: { metadataLagMs: 2_000 } });
    const path = "instance/network-interfaces/0/ip-aliases/0";
    const etag = (await get("instance/network-interfaces/0/?recursive=true")).headers.get("etag");
    addPods(simulator);
    expect((await get(path)).status).toBe(404);
    const query = `recursive=true&wait_for_change=true&last_etag=${etag}&timeout_sec=20`;
    expect(await text(`instance/network-interfaces/0/?${query}`)).toContain('"ipAliases":["10.4.1.0/24"]');
    expect(await text(path)).toBe("10.4.1.0/24");
  });

  it("answers a wait at once for an old etag, and at its timeout when nothing changes", async () => {
    const { text } = await openServer();
    expect(await text("instance/name?wait_for_change=true&last_etag=0&timeout_sec=20")).toBe("n");
    expect(await text("instance/name?wait_for_change=true&timeout_sec=0")).toBe("n");
  });

  it("tells of preemption", async () => {
    const { simulator, get, text } = await openServer({ delays: { instanceMs: 5000 } });
    const before = await get("instance/preempted");
    expect(await before.text()).toBe("FALSE");
    const etag = before.headers.get("etag");
    const waiting = text(`instance/preempted?wait_for_change=true&last_etag=${etag}&timeout_sec=20`);
    simulator.preemptInstance("n");
    expect(await waiting).toBe("TRUE");
  });

  it("of a machine with many instances tells callers apart by their address", async () => {
    const simulator = new GceSimulator({ nodeRange: "127.0.0.0/24" });
    onTestFinished(() => simulator[Symbol.asyncDispose]());
    const { metadata } = await simulator.listen({ metadata: { host: "127.0.0.1", port: 0 } });
    const url = `${metadata}/computeMetadata/v1/instance/name`;
    expect((await fetch(url, { headers: flavor })).status).toBe(404);
    simulator.addInstance({ name: "here", address: "127.0.0.1" });
    expect(await (await fetch(url, { headers: flavor })).text()).toBe("here");
  });
});
