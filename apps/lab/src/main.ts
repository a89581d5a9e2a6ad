import { rm } from "node:fs/promises";
import { delimiter } from "node:path";
import { describeError } from "@cocoon-net/core";
import { Command, Option } from "commander";
import { type Access, accessToNamespaces, ownRoot, type StoreKind } from "./access.ts";
import { makeLabDirectory, removeLeftoverDirectories } from "./lab-directory.ts";
import { ip } from "./namespaces/ip-command.ts";
import { namespacePrefix, removeLeftoverNamespaces, removeNamespaces } from "./namespaces/namespaces.ts";
import { perform } from "./show.ts";
import { Stage } from "./stage.ts";
import { storyNames } from "./stories/index.ts";

interface LabFlags {
  readonly once: boolean;
  readonly store: StoreKind;
  readonly embedded: boolean;
  readonly story: string;
  /** Set for the process inside the fabric's namespace. */
  readonly inside?: string;
  readonly directory?: string;
  readonly enter?: string;
}

/** Marks the stage that is root in a user namespace of its own. */
const ownRootMark = "COCOON_LAB_OWN_ROOT";

/** `npm start`: plays the story, then stays up. Stages: root in a user namespace if not root, outside, inside. */
export async function main(argv: readonly string[]): Promise<void> {
  const program = new Command("lab")
    .description("a whole cocoon-net cluster on this machine")
    .option("--once", "play the story, check every step, clean up, exit", false)
    .addOption(new Option("--store <kind>", "the cluster's store").choices(["etcd", "redis"]).default("etcd"))
    .addOption(new Option("--story <name>", "what is played").choices(storyNames).default("reclaim"))
    .option("--embedded", "play in one process, without namespaces", false)
    .addOption(new Option("--inside <prefix>").hideHelp())
    .addOption(new Option("--directory <path>").hideHelp())
    .addOption(new Option("--enter <command>").hideHelp())
    .parse(argv);
  const flags = program.opts<LabFlags>();
  // Where `ip` and its like are on Debian; a user's PATH does not have them.
  process.env.PATH = [process.env.PATH, "/usr/sbin", "/sbin"].join(delimiter);
  // Whoever reads the output may go away; this must still clean up.
  process.stdout.on("error", () => process.emit("SIGHUP"));
  try {
    process.exitCode = await run(argv, flags);
  } catch (error) {
    console.error(`lab: ${describeError(error)}`);
    process.exitCode = 1;
  }
  // Whatever a broken part left behind shall not keep this process up.
  setTimeout(() => process.exit(), 1_000).unref();
}

async function run(argv: readonly string[], flags: LabFlags): Promise<number> {
  if (flags.inside !== undefined && flags.directory !== undefined) {
    const { NamespaceWorld } = await import("./namespaces/namespace-world.ts");
    const { inside: prefix, directory, store, enter = "" } = flags;
    return perform({
      once: flags.once,
      story: flags.story,
      header: NamespaceWorld.header(store, directory),
      start: (signal) => NamespaceWorld.start({ prefix, directory, store, enter, signal }),
    });
  }
  const access = accessFor(flags);
  if (access.by === "root") return outside(argv, flags);
  if (access.by === "own root") return becomeOwnRoot(argv);
  const { EmbeddedWorld } = await import("./embedded/embedded-world.ts");
  if (access.obstacle !== "") {
    console.log(`Playing in one process, on embedded parts: ${access.obstacle}.`);
  }
  await removeLeftoverDirectories();
  return perform({
    once: flags.once,
    story: flags.story,
    header: EmbeddedWorld.header,
    start: (signal) => EmbeddedWorld.start(signal),
  });
}

function accessFor(flags: LabFlags): Access {
  if (flags.embedded) return { by: "nothing", obstacle: "" };
  return process.env[ownRootMark] === undefined ? accessToNamespaces(flags.store) : { by: "root" };
}

/** Makes the first namespace and a directory, runs the lab inside, and cleans up whatever became of it. */
async function outside([, script = ""]: readonly string[], flags: LabFlags): Promise<number> {
  using stage = new Stage();
  const left = (await removeLeftoverNamespaces()) + (await removeLeftoverDirectories());
  if (left > 0) console.log(`removed ${left} namespaces and directories that killed labs had left`);
  const prefix = namespacePrefix(process.pid);
  const fabric = `${prefix}-fabric`;
  const directory = await makeLabDirectory();
  try {
    await ip("netns", "add", fabric);
    return await stage.run(
      [
        // Not `ip netns exec`: its mount namespace would keep the nodes' namespaces from other terminals.
        ...["nsenter", `--net=/run/netns/${fabric}`, "setpriv", "--pdeathsig", "TERM"],
        ...[
          process.execPath,
          script,
          "--inside",
          prefix,
          "--directory",
          directory,
          "--enter",
          enterCommand(),
        ],
        ...["--store", flags.store, "--story", flags.story, ...(flags.once ? ["--once"] : [])],
      ],
      { graceMs: 15_000, limitMs: flags.once ? (flags.story === "all" ? 620_000 : 320_000) : undefined },
    );
  } finally {
    await removeNamespaces(prefix);
    await rm(directory, { recursive: true, force: true });
  }
}

/** What another terminal has to put in front of a command to see what this process sees. */
function enterCommand(): string {
  return process.env[ownRootMark] === undefined
    ? ""
    : `nsenter --preserve-credentials --user --mount --target ${process.pid}`;
}

/** Root in a user namespace of one's own can make network namespaces, where the kernel allows it. */
async function becomeOwnRoot([, ...args]: readonly string[]): Promise<number> {
  using stage = new Stage();
  const setUp = 'mount -t tmpfs tmpfs /run && mkdir /run/netns && exec setpriv --pdeathsig TERM "$@"';
  try {
    return await stage.run([...ownRoot, "sh", "-c", setUp, "lab", process.execPath, ...args], {
      env: { ...process.env, [ownRootMark]: "1" },
      graceMs: 30_000,
    });
  } finally {
    // Its namespaces went with it, however it ended; its directory only if it could still do that itself.
    await removeLeftoverDirectories();
  }
}
