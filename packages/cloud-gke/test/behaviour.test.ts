import type { FaultRule, GceSimulatorOptions } from "@cocoon-net/cloud-testkit";
import { ExhaustedError } from "@cocoon-net/core";
import { expect, it } from "vitest";
import { GkeWorld } from "./gke-world.ts";
import { moveOf, NodeFixture } from "./node-fixture.ts";

const update = "instances.updateNetworkInterface";

/** A node's life with a move there and back, on instances that had no alias before. */
async function wholeLife(world: GkeWorld): Promise<void> {
  const parentCIDR = "172.20.0.0/16";
  const home = await NodeFixture.start(world, { parentCIDR });
  const guest = await NodeFixture.start(world, { node: "n2", subnet: world.block(1), parentCIDR });
  await home.provision();
  await guest.provision();
  expect((await home.move("172.20.0.77", guest)).verified).toBe(true);
  expect((await guest.move("172.20.0.77", home)).verified).toBe(true);
  expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  for (const node of [home, guest]) {
    const { verified, evidence } = await home.cloud.fence(node.target(), node.job());
    expect(verified, evidence).toBe(true);
    expect((await home.cloud.release(node.target(), node.job())).remaining).toEqual([]);
    expect(world.aliasesOf(node.instanceID)).toEqual([]);
  }
}

const unsure: GceSimulatorOptions[] = [
  { fingerprints: "content" },
  { emptyAliases: "shown" },
  { busyStatus: 412 },
  { throttleStatus: 429, errorInfo: false, retryAfter: false },
  { stoppedKeepsAliases: false },
  { delays: { metadataLagMs: 60_000 } },
];

it.each(unsure)("what the vendor does not say may be %j", async (behaviour) => {
  await using world = await GkeWorld.open({ secondaryRanges: {}, ...behaviour });
  world.simulator.injectFault({ action: update, kind: "throttle", after: 1, times: 2 });
  world.simulator.injectFault({ action: update, kind: "lost-answer", after: 2 });
  await wholeLife(world);
});

it.each(["request", "operation"] as const)(
  "the limit of an interface may be told by the %s",
  async (aliasLimit) => {
    await using world = await GkeWorld.open({ aliasLimit, limits: { aliasRangesPerNic: 4 } });
    const home = await NodeFixture.start(world);
    const guest = await NodeFixture.start(world, { node: "n2", subnet: world.block(1) });
    await home.provision();
    await guest.provision();
    const failure = home.cloud.move(moveOf("172.20.0.77", home, guest), home.job());
    await expect(failure).rejects.toThrow(ExhaustedError);
    expect((await home.cloud.describeLimits(home.request.instance)).aliasRangesPerNIC).toBe(4);
    expect(world.aliasesOf(home.instanceID)).toEqual(["cocoon-pods:172.20.0.0/24"]);
  },
);

const faults: FaultRule["kind"][] = ["error5xx", "late-5xx", "lost-answer", "half-done", "fails-later"];

it.each(faults)("writes that go wrong as %s again and again end right", async (kind) => {
  await using world = await GkeWorld.open();
  world.simulator.injectFault({ action: update, kind, probability: 0.3 });
  await wholeLife(world);
});

it("a list that lags does not verify a move or a fence that it does not show", async () => {
  await using world = await GkeWorld.open({ delays: { listLagMs: 60_000 } });
  const home = await NodeFixture.start(world);
  const guest = await NodeFixture.start(world, { node: "n2", subnet: world.block(1) });
  await home.provision();
  await guest.provision();
  const moved = await home.move("172.20.0.77", guest);
  expect(moved.verified).toBe(false);
  expect(world.aliasesOf(guest.instanceID)).toContain("cocoon-pods:172.20.0.77/32");
  expect((await home.cloud.fence(home.target(), home.job())).verified).toBe(false);
});
