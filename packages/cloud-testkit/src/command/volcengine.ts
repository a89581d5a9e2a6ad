import { type Command, InvalidArgumentError, Option } from "commander";
import type { BucketRate } from "../rate-limit.ts";
import { behaviourChoices } from "../volcengine/behaviour.ts";
import type { AccessKey } from "../volcengine/signature.ts";
import { defaultDelays, defaultLimits, VolcengineSimulator } from "../volcengine/simulator.ts";
import { parseNumber } from "./arguments.ts";
import { type CommonFlags, checkMetadata, commonCommand, serve } from "./common.ts";

interface VolcengineFlags extends CommonFlags {
  readonly vpcCidr: string;
  readonly accessKey: AccessKey;
  readonly role?: string;
  readonly readsPerSecond?: BucketRate;
  readonly writesPerSecond?: BucketRate;
}

export function volcengineCommand(): Command {
  return commonCommand({
    name: "volcengine",
    description: "the vpc and ecs APIs of Volcengine, and the instance metadata service, on in-memory state",
    instance: "<id>",
    region: "cn-beijing",
    limits: withoutRates(defaultLimits),
    delays: defaultDelays,
    changes: ["createEniMs", "attachMs", "detachMs", "deleteEniMs", "createSubnetMs", "instanceMs"],
    choices: { ...behaviourChoices },
  })
    .option("--vpc-cidr <cidr>", "range of the VPC", "172.20.0.0/16")
    .addOption(
      new Option("--access-key <id:secret>", "the access key that is accepted")
        .argParser(parseAccessKey)
        .default(parseAccessKey("AKTEST:SKTEST"), "AKTEST:SKTEST"),
    )
    .option("--role <name>", "the instances have this role: the metadata service issues keys for it")
    .option("--reads-per-second <n[:burst]>", "throttle Describe and List calls", parseRate)
    .option("--writes-per-second <n[:burst]>", "throttle the other calls", parseRate)
    .action(run);
}

async function run(flags: VolcengineFlags): Promise<void> {
  checkMetadata(flags);
  const { accessKey, role, seed, jitter, zone, denied, region } = flags;
  await using simulator = new VolcengineSimulator({
    ...flags.play,
    accessKeys: [accessKey],
    region,
    denied,
    vpcCIDR: flags.vpcCidr,
    limits: { ...flags.limit, reads: flags.readsPerSecond, writes: flags.writesPerSecond },
    delays: flags.delay,
    ...(zone === undefined ? {} : { zone }),
    ...(role === undefined ? {} : { role: { name: role } }),
    ...(seed === undefined ? {} : { seed }),
    ...(jitter === undefined ? {} : { jitter }),
  });
  for (const instanceID of flags.instance) simulator.addInstance({ instanceID });
  const { listen, metadataListen } = flags;
  const open = (instanceID: string | undefined) =>
    simulator.listen({
      api: listen,
      ...(metadataListen === undefined
        ? {}
        : { metadata: { ...metadataListen, ...(instanceID === undefined ? {} : { instanceID }) } }),
    });
  await serve(simulator, flags, open, {
    what: [
      `Volcengine simulator: region ${simulator.region}, zone ${simulator.zone}, VPC ${simulator.vpcID} (${flags.vpcCidr})`,
      ...simulator.describeState().instances.map((i) => `  instance  ${i.instanceID} at ${i.primaryAddress}`),
    ],
    environment: (api) => ({
      COCOON_NET_VOLCENGINE_ENDPOINT: api,
      ...(role === undefined
        ? {
            VOLCENGINE_ACCESS_KEY_ID: accessKey.accessKeyID,
            VOLCENGINE_SECRET_ACCESS_KEY: accessKey.secretAccessKey,
          }
        : { VOLCENGINE_ECS_METADATA: role }),
      VOLCENGINE_REGION: region,
    }),
  });
}

function parseAccessKey(text: string): AccessKey {
  const [accessKeyID, secretAccessKey, ...rest] = text.split(":");
  if (!accessKeyID || !secretAccessKey || rest.length > 0) throw new InvalidArgumentError("Give ID:SECRET.");
  return { accessKeyID, secretAccessKey };
}

/** The burst is twice the rate unless it is given. */
function parseRate(text: string): BucketRate {
  const [rate = "", burst, ...rest] = text.split(":");
  const perSecond = parseNumber(rate);
  const given = burst === undefined ? Math.max(1, 2 * perSecond) : parseNumber(burst);
  if (rest.length > 0 || perSecond === 0 || given < 1)
    throw new InvalidArgumentError("Give N or N:BURST, e.g. 4:7.");
  return { perSecond, burst: given };
}

/** Rates have options of their own. */
function withoutRates({ reads: _, writes: __, actions: ___, ...limits }: typeof defaultLimits): object {
  return limits;
}
