import { inspect } from "node:util";
import { AuthError, describeError, UnavailableError } from "@cocoon-net/core";
import { expect, it } from "vitest";
import { CredentialSource } from "../src/credentials.ts";
import { Metadata } from "../src/metadata.ts";
import { readRoleCredentials, readRoleName } from "../src/role-credentials.ts";
import type { Environment } from "../src/settings.ts";
import { VolcengineCloud } from "../src/volcengine-cloud.ts";
import { impatient, unlimited, VolcengineWorld } from "./volcengine-world.ts";

const role = { name: "net-manager", lifetimeMs: 3_600_000 };

/** A clock that can be put forward. */
function movableClock() {
  const clock = {
    aheadMs: 0,
    now: () => Date.now() + clock.aheadMs,
    after: (ms: number, run: () => void) => {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
  };
  return clock;
}

/** An instance without any key of its own. */
async function keyless(world: VolcengineWorld): Promise<{ instanceID: string; env: Environment }> {
  const instanceID = world.addInstance();
  const { COCOON_NET_VOLCENGINE_ENDPOINT, COCOON_NET_METADATA_ENDPOINT } =
    await world.environment(instanceID);
  const env = { COCOON_NET_VOLCENGINE_ENDPOINT, COCOON_NET_METADATA_ENDPOINT, HOME: "/nonexistent" };
  return { instanceID, env };
}

it.each([
  { metadataItems: "underscores", metadataTokens: "required" },
  { metadataItems: "hyphens", metadataTokens: "none" },
] as const)("where there is no key, the instance's role gives one, and its region: %j", async (options) => {
  await using world = await VolcengineWorld.open({ role, ...options });
  const { instanceID, env } = await keyless(world);
  await using cloud = new VolcengineCloud(env, { timing: impatient, budget: unlimited() });
  expect(await cloud.describeInstance(instanceID)).toBe("running");
});

it("credentials of a role that are refused are renewed once", async () => {
  const clock = movableClock();
  const limits = { clockSkewMs: Number.POSITIVE_INFINITY };
  await using world = await VolcengineWorld.open({ role, clock, limits });
  const { instanceID, env } = await keyless(world);
  await using cloud = new VolcengineCloud(env, { timing: impatient, budget: unlimited() });
  expect(await cloud.describeInstance(instanceID)).toBe("running");
  // The cloud's clock runs ahead of what it said when it issued them.
  clock.aheadMs = 2 * role.lifetimeMs;
  expect(await cloud.describeInstance(instanceID)).toBe("running");
  expect(world.simulator.calls.DescribeInstances).toBe(3);

  world.simulator.injectFault({
    action: "DescribeInstances",
    kind: "refuse",
    code: "InvalidSecretToken",
    times: 5,
  });
  const failure = await cloud.describeInstance(instanceID).then(String, (error: unknown) => error);
  expect(failure).toBeInstanceOf(AuthError);
  expect(world.simulator.calls.DescribeInstances).toBe(5);
  expect(inspect([failure, cloud], { depth: 10 })).not.toMatch(/AKTP|SessionToken|secretAccessKey: '/);
});

it("credentials of a role are renewed before they expire, and used until then", async () => {
  await using world = await VolcengineWorld.open({ role });
  const { env } = await keyless(world);
  let metadata = new Metadata(env.COCOON_NET_METADATA_ENDPOINT ?? "", impatient);
  let reads = 0;
  const counted = {
    answers: () => metadata.answers(),
    region: () => metadata.region(),
    roleName: () => metadata.roleName(),
    roleCredentials: (name: string) => {
      reads++;
      return metadata.roleCredentials(name);
    },
  };
  let now = 0;
  const source = new CredentialSource(env, counted, () => now);
  const first = await source.current();
  expect(first).toMatchObject({ region: "cn-beijing", account: "role net-manager" });
  // Many at once ask once.
  now = role.lifetimeMs - 299_000;
  await Promise.all([source.current(), source.current(), source.current()]);
  expect(reads).toBe(2);
  now += 3_000_000;
  const second = await source.current();
  expect(reads).toBe(2);

  metadata = new Metadata("http://127.0.0.1:1", { ...impatient, metadataMs: 10 });
  now += 400_000;
  expect(await source.current()).toBe(second);
  now += role.lifetimeMs;
  await expect(source.current()).rejects.toThrow(AuthError);
});

it("a machine without a key and without a role is told so in one line", async () => {
  await using world = await VolcengineWorld.open();
  const { env, instanceID } = await keyless(world);
  await using cloud = new VolcengineCloud(env, { timing: impatient, budget: unlimited() });
  const failure = await cloud.describeInstance(instanceID).then(String, describeError);
  expect(failure).toMatch(
    /^no Volcengine access key in the environment or in .*config.json, and no role: .*; set/,
  );
  await using blind = new VolcengineCloud(
    { ...env, VOLCENGINE_ECS_METADATA_DISABLED: "true" },
    { timing: impatient, budget: unlimited() },
  );
  await expect(blind.describeInstance(instanceID)).rejects.toThrow("VOLCENGINE_ECS_METADATA_DISABLED is set");
});

it.each([
  ["net-manager", "net-manager"],
  ["net-manager\nother\n", "net-manager"],
  ['["net-manager"]', "net-manager"],
  ['{"Roles": [{"RoleName": "net-manager"}]}', "net-manager"],
  ["", undefined],
  ["[]", undefined],
])("a list of roles %j names %s", (text, name) => {
  expect(readRoleName(text)).toBe(name);
});

it("role credentials that cannot be read are not shown", () => {
  for (const text of ["TOPSECRET", '{"SecretAccessKey": "TOPSECRET"}', "[]"]) {
    const read = () => readRoleCredentials(text);
    expect(read).toThrow(UnavailableError);
    expect(read).not.toThrow(/TOPSECRET/);
  }
});
