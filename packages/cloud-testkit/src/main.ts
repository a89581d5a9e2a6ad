import { CocoonError, describeError, InvalidError } from "@cocoon-net/core";
import { Command, InvalidArgumentError } from "commander";
import { GceSimulator } from "./gce/simulator.ts";
import type { ListenAddress } from "./http-listener.ts";
import { VolcengineSimulator } from "./volcengine/simulator.ts";

interface VolcengineFlags {
  readonly listen: ListenAddress;
  readonly metadataListen?: ListenAddress;
  readonly instance: readonly string[];
  readonly region: string;
  readonly zone?: string;
  readonly vpcCidr: string;
  readonly accessKey: { readonly accessKeyID: string; readonly secretAccessKey: string };
  readonly readsPerSecond?: number;
  readonly writesPerSecond?: number;
  readonly delay?: number;
}

interface GceFlags {
  readonly listen: ListenAddress;
  readonly metadataListen?: ListenAddress;
  readonly instance: readonly string[];
  readonly project: string;
  readonly region: string;
  readonly zone?: string;
  readonly secondaryRange: Readonly<Record<string, string>>;
  readonly readsPerMinute?: number;
  readonly writesPerMinute?: number;
  readonly delay?: number;
}

function parseListen(text: string): ListenAddress {
  const match = /^(.+):(\d{1,5})$/.exec(text);
  const host = match?.[1]?.replaceAll(/[[\]]/g, "");
  const port = Number(match?.[2]);
  if (!host || !(port <= 65_535)) throw new InvalidArgumentError("Give HOST:PORT, e.g. 127.0.0.1:8080.");
  return { host, port };
}

function parseAccessKey(text: string): VolcengineFlags["accessKey"] {
  const [accessKeyID, secretAccessKey, ...rest] = text.split(":");
  if (!accessKeyID || !secretAccessKey || rest.length > 0) throw new InvalidArgumentError("Give ID:SECRET.");
  return { accessKeyID, secretAccessKey };
}

function parseNumber(text: string): number {
  const value = Number(text);
  if (text === "" || !(value >= 0)) throw new InvalidArgumentError("Give a number.");
  return value;
}

function parseRange(text: string, ranges: GceFlags["secondaryRange"]): GceFlags["secondaryRange"] {
  const [name, cidr, ...rest] = text.split("=");
  if (!name || !cidr || rest.length > 0) throw new InvalidArgumentError("Give NAME=CIDR.");
  return { ...ranges, [name]: cidr };
}

/** Callers of a loopback address all look the same. */
function checkMetadata(flags: Pick<GceFlags, "metadataListen" | "instance">): void {
  if (flags.metadataListen?.host.startsWith("127.") && flags.instance.length !== 1) {
    throw new InvalidError("--metadata-listen on a loopback address serves one instance", {
      hint: "name it with one --instance",
    });
  }
}

async function runGce(flags: GceFlags): Promise<void> {
  checkMetadata(flags);
  const { delay, zone } = flags;
  await using simulator = new GceSimulator({
    project: flags.project,
    region: flags.region,
    secondaryRanges: flags.secondaryRange,
    ...(zone === undefined ? {} : { zone }),
    limits: { readsPerMinute: flags.readsPerMinute, writesPerMinute: flags.writesPerMinute },
    ...(delay === undefined ? {} : { delays: { pendingMs: 0, operationMs: delay, instanceMs: delay } }),
  });
  for (const name of flags.instance) simulator.addInstance({ name });
  const only = flags.instance.length === 1 ? flags.instance[0] : undefined;
  const listening = await simulator.listen({
    api: flags.listen,
    ...(flags.metadataListen === undefined
      ? {}
      : { metadata: { ...flags.metadataListen, ...(only === undefined ? {} : { instance: only }) } }),
  });
  const ranges = Object.entries(flags.secondaryRange).map(([name, cidr]) => `, ${name} ${cidr}`);
  const { instances, subnetworks } = simulator.describeState();
  const lines = [
    `Compute Engine simulator: project ${simulator.project}, zone ${simulator.zone}`,
    ...subnetworks.map((s) => `  subnet    ${s.region}/${s.name} ${s.cidr}${ranges.join("")}`),
    ...instances.map((i) => `  instance  ${i.name} (${i.id}) at ${i.nic.address}`),
    `  API       ${listening.api}`,
    ...(listening.metadata === undefined ? [] : [`  metadata  ${listening.metadata}`]),
    `  look      curl ${listening.api}/sim/state (or /sim/calls)`,
    "Use it with:",
    `  export COCOON_NET_GCE_ENDPOINT=${listening.api}`,
    ...(listening.metadata === undefined
      ? []
      : [`  export COCOON_NET_METADATA_ENDPOINT=${listening.metadata}`]),
    "Ctrl-C ends it.",
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
  await stopSignal();
}

async function runVolcengine(flags: VolcengineFlags): Promise<void> {
  checkMetadata(flags);
  const rate = (perSecond: number | undefined) =>
    perSecond ? { perSecond, burst: Math.max(1, 2 * perSecond) } : undefined;
  const delay = flags.delay;
  await using simulator = new VolcengineSimulator({
    accessKeys: [flags.accessKey],
    region: flags.region,
    vpcCIDR: flags.vpcCidr,
    ...(flags.zone === undefined ? {} : { zone: flags.zone }),
    limits: {
      reads: rate(flags.readsPerSecond),
      writes: rate(flags.writesPerSecond),
    },
    ...(delay === undefined
      ? {}
      : {
          delays: {
            createEniMs: delay,
            attachMs: delay,
            detachMs: delay,
            deleteEniMs: delay,
            createSubnetMs: delay,
            instanceMs: delay,
          },
        }),
  });
  for (const instanceID of flags.instance) simulator.addInstance({ instanceID });
  const only = flags.instance.length === 1 ? flags.instance[0] : undefined;
  const listening = await simulator.listen({
    api: flags.listen,
    ...(flags.metadataListen === undefined
      ? {}
      : { metadata: { ...flags.metadataListen, ...(only === undefined ? {} : { instanceID: only }) } }),
  });
  const lines = [
    `Volcengine simulator: region ${simulator.region}, zone ${simulator.zone}, VPC ${simulator.vpcID} (${flags.vpcCidr})`,
    ...simulator.describeState().instances.map((i) => `  instance  ${i.instanceID} at ${i.primaryAddress}`),
    `  API       ${listening.api}`,
    ...(listening.metadata === undefined ? [] : [`  metadata  ${listening.metadata}`]),
    `  look      curl ${listening.api}/sim/state (or /sim/calls)`,
    "Use it with:",
    `  export COCOON_NET_VOLCENGINE_ENDPOINT=${listening.api}`,
    ...(listening.metadata === undefined
      ? []
      : [`  export COCOON_NET_METADATA_ENDPOINT=${listening.metadata}`]),
    `  export VOLCENGINE_ACCESS_KEY_ID=${flags.accessKey.accessKeyID}`,
    `  export VOLCENGINE_SECRET_ACCESS_KEY=${flags.accessKey.secretAccessKey}`,
    `  export VOLCENGINE_REGION=${simulator.region}`,
    "Ctrl-C ends it.",
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
  await stopSignal();
}

function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    process.once("SIGINT", () => resolve());
    process.once("SIGTERM", () => resolve());
  });
}

const program = new Command("cocoon-cloud-sim").description("Simulated cloud APIs for cocoon-net");

program
  .command("volcengine")
  .description("the vpc and ecs APIs of Volcengine, and the instance metadata service, on in-memory state")
  .option("--listen <host:port>", "address of the API; port 0 takes a free one", parseListen, {
    host: "127.0.0.1",
    port: 0,
  })
  .option("--metadata-listen <host:port>", "address of the metadata service", parseListen)
  .option(
    "--instance <id>",
    "make an instance; repeatable. With one, the metadata service answers as it, else by source address",
    (id: string, ids: readonly string[]) => [...ids, id],
    [],
  )
  .option("--region <region>", "region of the account", "cn-beijing")
  .option("--zone <zone>", "zone of the instances (default: REGION-a)")
  .option("--vpc-cidr <cidr>", "range of the VPC", "172.20.0.0/16")
  .option("--access-key <id:secret>", "the access key that is accepted", parseAccessKey, {
    accessKeyID: "AKTEST",
    secretAccessKey: "SKTEST",
  })
  .option("--reads-per-second <n>", "throttle Describe calls", parseNumber)
  .option("--writes-per-second <n>", "throttle the other calls", parseNumber)
  .option("--delay <ms>", "how long each asynchronous change takes", parseNumber)
  .action(runVolcengine);

program
  .command("gce")
  .description("the Compute Engine API, as far as alias ranges need it, and the metadata server")
  .option("--listen <host:port>", "address of the API; port 0 takes a free one", parseListen, {
    host: "127.0.0.1",
    port: 0,
  })
  .option("--metadata-listen <host:port>", "address of the metadata server", parseListen)
  .option(
    "--instance <name>",
    "make an instance; repeatable. With one, the metadata server answers as it, else by source address",
    (name: string, names: readonly string[]) => [...names, name],
    [],
  )
  .option("--project <id>", "id of the project", "demo-project")
  .option("--region <region>", "region of the subnetwork", "us-central1")
  .option("--zone <zone>", "zone of the instances (default: REGION-a)")
  .option("--secondary-range <name=cidr>", "a secondary range of the subnetwork; repeatable", parseRange, {})
  .option("--reads-per-minute <n>", "rate limit of get, list and wait", parseNumber)
  .option("--writes-per-minute <n>", "rate limit of the other calls", parseNumber)
  .option("--delay <ms>", "how long each operation takes", parseNumber)
  .action(runGce);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CocoonError)) throw error;
  process.stderr.write(`cocoon-cloud-sim: ${describeError(error)}\n`);
  process.exitCode = 1;
}
