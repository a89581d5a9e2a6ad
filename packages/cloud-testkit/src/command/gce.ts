import type { Command } from "commander";
import { behaviourChoices } from "../gce/behaviour.ts";
import { defaultDelays, defaultLimits, GceSimulator } from "../gce/simulator.ts";
import { type Named, pairOf } from "./arguments.ts";
import { type CommonFlags, checkMetadata, commonCommand, many, serve } from "./common.ts";

interface GceFlags extends CommonFlags {
  readonly project: string;
  readonly secondaryRange: Named<string>;
}

export function gceCommand(): Command {
  return commonCommand({
    name: "gce",
    description: "the Compute Engine API, as far as alias ranges need it, and the metadata server",
    instance: "<name>",
    region: "us-central1",
    limits: defaultLimits,
    delays: defaultDelays,
    changes: ["operationMs", "instanceMs"],
    choices: { ...behaviourChoices },
  })
    .option("--project <id>", "id of the project", "demo-project")
    .addOption(
      many("--secondary-range <name=cidr>", "a secondary range of the subnetwork", pairOf("NAME=CIDR"), {}),
    )
    .action(run);
}

async function run(flags: GceFlags): Promise<void> {
  checkMetadata(flags);
  const { listen, metadataListen, secondaryRange, seed, jitter, zone, region, denied, project } = flags;
  await using simulator = new GceSimulator({
    ...flags.play,
    project,
    region,
    denied,
    secondaryRanges: secondaryRange,
    limits: flags.limit,
    delays: flags.delay,
    ...(zone === undefined ? {} : { zone }),
    ...(seed === undefined ? {} : { seed }),
    ...(jitter === undefined ? {} : { jitter }),
  });
  for (const name of flags.instance) simulator.addInstance({ name });
  const open = (instance: string | undefined) =>
    simulator.listen({
      api: listen,
      ...(metadataListen === undefined
        ? {}
        : { metadata: { ...metadataListen, ...(instance === undefined ? {} : { instance }) } }),
    });
  const ranges = Object.entries(secondaryRange).map(([name, cidr]) => `, ${name} ${cidr}`);
  const { instances, subnetworks } = simulator.describeState();
  await serve(simulator, flags, open, {
    what: [
      `Compute Engine simulator: project ${simulator.project}, zone ${simulator.zone}`,
      ...subnetworks.map((s) => `  subnet    ${s.region}/${s.name} ${s.cidr}${ranges.join("")}`),
      ...instances.map((i) => `  instance  ${i.name} (${i.id}) at ${i.nic.address}`),
    ],
    environment: (api) => ({ COCOON_NET_GCE_ENDPOINT: api }),
  });
}
