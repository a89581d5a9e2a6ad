import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  GceSimulator,
  type GceSimulatorOptions,
  VolcengineSimulator,
  type VolcengineSimulatorOptions,
} from "@cocoon-net/cloud-testkit";
import { DisposeStack } from "@cocoon-net/core";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { type Outcome, runCommand } from "./support/run-command.ts";

// Whatever goes wrong here goes wrong at the cloud: nothing of this machine may be touched.
vi.mock("@cocoon-net/host-linux", async (original) => ({
  ...(await original<object>()),
  setUpHost: () => Promise.reject(new Error("the host was touched")),
  bringUpLinksByMAC: () => Promise.reject(new Error("the host was touched")),
}));

const subnet = "172.20.7.0/24";
const at = { host: "127.0.0.1", port: 0 };

interface Run {
  readonly outcome: Outcome;
  /** All that is on record: pool.json and job.json. */
  readonly record: string;
}

async function init(env: Readonly<Record<string, string>>, ...args: readonly string[]): Promise<Run> {
  const directory = await mkdtemp(join(tmpdir(), "cocoon-bad-"));
  const nothing = ["VOLCENGINE_ACCESS_KEY_ID", "VOLCENGINE_SECRET_ACCESS_KEY", "VOLCENGINE_REGION"];
  const home = { HOME: directory, CLOUDSDK_CONFIG: directory, GOOGLE_APPLICATION_CREDENTIALS: "" };
  for (const name of nothing) vi.stubEnv(name, undefined);
  for (const [name, value] of Object.entries({ ...home, ...env })) vi.stubEnv(name, value);
  onTestFinished(async () => {
    vi.unstubAllEnvs();
    await rm(directory, { recursive: true, force: true });
  });
  const files = ["--state-dir", directory, "--pid-file", join(directory, "pid")];
  const outcome = await runCommand(["init", "--node-name", "n1", "--subnet", subnet, ...files, ...args]);
  const texts = ["pool.json", "job.json"].map((name) =>
    readFile(join(directory, name), "utf8").catch(() => ""),
  );
  return { outcome, record: (await Promise.all(texts)).join("\n") };
}

function expectOneLine({ outcome }: Run, line: RegExp): void {
  expect(outcome.failure).toMatch(line);
  expect(outcome.failure).not.toContain("\n");
  expect(outcome.out).toEqual([]);
}

const key = { VOLCENGINE_ACCESS_KEY_ID: "AKTEST", VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST" };

describe("init on Volcengine says in one line, with what was made on record:", () => {
  interface Case {
    readonly what: string;
    readonly line: RegExp;
    readonly cloud?: VolcengineSimulatorOptions;
    readonly env?: (region: string) => Readonly<Record<string, string>>;
    /** Somebody else's doing, before. */
    readonly before?: (simulator: VolcengineSimulator) => void;
  }
  const cases: readonly Case[] = [
    { what: "no credentials", env: () => ({}), line: /VOLCENGINE_ACCESS_KEY_ID/ },
    {
      what: "a wrong secret",
      env: (region) => ({ ...key, VOLCENGINE_SECRET_ACCESS_KEY: "wrong", VOLCENGINE_REGION: region }),
      line: /SignatureDoesNotMatch.*; check /,
    },
    {
      what: "a wrong region",
      env: () => ({ ...key, VOLCENGINE_REGION: "cn-elsewhere" }),
      line: /is used for cn-elsewhere, but this node is in \S+; set VOLCENGINE_REGION$/,
    },
    {
      what: "no permission at the first step",
      cloud: { denied: ["DescribeInstances"] },
      line: /^DescribeInstances .*; grant ecs:DescribeInstances to the access key$/,
    },
    {
      what: "no permission half-way",
      cloud: { denied: ["AttachNetworkInterface"] },
      line: /^AttachNetworkInterface eni-.*; grant vpc:AttachNetworkInterface to the access key$/,
    },
    {
      what: "a quota",
      cloud: { limits: { enisPerRegion: 0 } },
      line: /QuotaExceeded\.Eni: .*\(in use: 0 secondary ENIs of the account\); delete unused ENIs/,
    },
    {
      what: "a subnet with another owner",
      before: (simulator) => simulator.addSubnet({ cidr: subnet, tags: { "cocoon-net:cluster": "theirs" } }),
      line: /\(172\.20\.7\.0\/24\) belongs to the cluster theirs; choose another --subnet/,
    },
    {
      what: "an ENI that somebody else has attached",
      before(simulator) {
        const subnetID = simulator.addSubnet({ cidr: subnet, name: "n1-vms" });
        simulator.addInstance({ instanceID: "i-other" });
        simulator.addEni({ subnetID, instanceID: "i-other", addresses: ["172.20.7.250"] });
      },
      line: /\(172\.20\.7\.0\/24\) is in use: eni-\S+ is attached to i-other; choose another --subnet/,
    },
  ];

  it.each(cases)("$what", async ({ line, cloud, env, before }) => {
    await using simulator = new VolcengineSimulator({
      delays: { createEniMs: 5, attachMs: 5, createSubnetMs: 5 },
      ...cloud,
    });
    simulator.addInstance({ instanceID: "i-n1" });
    before?.(simulator);
    const had = new Set(simulator.describeState().enis.map(({ eniID }) => eniID));
    const { api = "", metadata = "" } = await simulator.listen({
      api: at,
      metadata: { ...at, instanceID: "i-n1" },
    });
    const run = await init(
      {
        COCOON_NET_VOLCENGINE_ENDPOINT: api,
        COCOON_NET_METADATA_ENDPOINT: metadata,
        ...(env?.(simulator.region) ?? { ...key, VOLCENGINE_REGION: simulator.region }),
      },
      ...["--platform", "volcengine", "--pool-size", "20"],
    );
    expectOneLine(run, line);
    const made = simulator.describeState().enis.filter(({ eniID }) => !had.has(eniID));
    expect(made.filter(({ eniID }) => !run.record.includes(eniID))).toEqual([]);
  });
});

describe("init on GKE says in one line, with nothing half-done:", () => {
  interface Case {
    readonly what: string;
    readonly line: RegExp;
    readonly cloud?: GceSimulatorOptions;
    readonly env?: Readonly<Record<string, string>>;
    readonly before?: (simulator: GceSimulator) => void;
    readonly scopes?: readonly string[];
  }
  const cases: readonly Case[] = [
    {
      what: "no credentials",
      scopes: [],
      line: /^no Google credentials: no key file, and the metadata server .* run on an instance with a service account$/,
    },
    {
      what: "a key file that does not exist",
      env: { GOOGLE_APPLICATION_CREDENTIALS: "/nonexistent/key.json" },
      line: /^cannot read the Google key file \/nonexistent\/key\.json: it does not exist; check GOOGLE_APPLICATION_/,
    },
    {
      what: "no permission",
      cloud: { denied: ["compute.instances.updateNetworkInterface"] },
      line: /Required 'compute\.instances\.updateNetworkInterface' permission for .*; grant it/,
    },
    {
      what: "a quota",
      env: { COCOON_NET_GCE_ALIAS_RANGES_PER_NIC: "1" },
      before: (simulator) => simulator.addAlias("n1", { cidr: "10.128.1.1/32", rangeName: undefined }),
      line: /^the interface of n1 has 1 alias ranges and would have 2, of at most 1; /,
    },
    {
      what: "a pod range of somebody else",
      cloud: { secondaryRanges: { "cocoon-pods": "10.4.0.0/16" } },
      line: /^secondary range "cocoon-pods" on subnet nodes is 10\.4\.0\.0\/16, which does not cover --subnet/,
    },
    {
      what: "a block that another node has",
      before(simulator) {
        simulator.addInstance({ name: "other" });
        simulator.addAlias("other", { cidr: "172.20.7.9/32", rangeName: "cocoon-pods" });
      },
      line: /\(cocoon-pods:172\.20\.7\.9\/32 is on demo-project\/.*\); drain or reclaim/,
    },
  ];

  it.each(cases)("$what", async ({ line, cloud, env, before, scopes }) => {
    await using simulator = new GceSimulator({
      secondaryRanges: { "cocoon-pods": "172.20.0.0/16" },
      delays: { operationMs: 5 },
      ...cloud,
    });
    simulator.addInstance({ name: "n1", ...(scopes === undefined ? {} : { scopes }) });
    before?.(simulator);
    const aliases = () => simulator.describeState().instances.map(({ nic }) => nic.aliases);
    const had = aliases();
    const { api = "", metadata = "" } = await simulator.listen({
      api: at,
      metadata: { ...at, instance: "n1" },
    });
    const places = { COCOON_NET_GCE_ENDPOINT: api, COCOON_NET_METADATA_ENDPOINT: metadata };
    expectOneLine(await init({ ...places, ...env }, "--platform", "gke"), line);
    expect(aliases()).toEqual(had);
  });
});

describe("init on a machine that is not where it is said to be", () => {
  const lines: readonly (readonly [string[], "both" | "other" | "none", RegExp])[] = [
    [
      ["--platform", "gke"],
      "other",
      /^the metadata server .* is not Google's: .*; run this on a Compute Engine/,
    ],
    [["--platform", "volcengine"], "none", /^the metadata service .*; run this on a Volcengine instance/],
    [[], "both", /^the metadata of volcengine and gke answer here; say which cloud this is with --platform$/],
    [[], "none", /^no instance metadata service answers here; say which cloud this is with --platform$/],
  ];

  it.each(lines)("%j, where the metadata is %s's", async (args, whose, line) => {
    await using parts = new DisposeStack();
    const server = createServer((_request, response) => {
      const google = whose === "both" ? { "metadata-flavor": "Google" } : {};
      response.writeHead(whose === "none" ? 404 : 200, google).end(whose === "none" ? "" : "i-n1");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    parts.defer(() => void server.close());
    const address = server.address();
    const endpoint = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
    const run = await init({ COCOON_NET_METADATA_ENDPOINT: endpoint }, ...args);
    expectOneLine(run, line);
    expect(run.record.trim()).toBe("");
  });
});
