import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeError } from "@cocoon-net/core";
import { Command, Option } from "commander";
import { EmbeddedWorld } from "./embedded/embedded-world.ts";
import { NamespaceWorld } from "./namespaces/namespace-world.ts";
import { namespacePrefix, removeLeftovers, removeNamespaces } from "./namespaces/namespaces.ts";
import { play } from "./story.ts";
import { followEvents, Timeline } from "./timeline.ts";
import type { World } from "./world.ts";

interface LabFlags {
  readonly once: boolean;
  readonly store: "etcd" | "redis";
  readonly embedded: boolean;
  /** Set for the process inside the fabric's namespace. */
  readonly inside?: string;
  readonly directory?: string;
  readonly enter?: string;
}

/** `npm start`: plays the story, then stays up. Three stages: outside, in a user namespace if not root, inside. */
export async function main(argv: readonly string[]): Promise<void> {
  const program = new Command("lab")
    .description("a whole cocoon-net cluster on this machine")
    .option("--once", "play the story, check every step, clean up, exit", false)
    .addOption(new Option("--store <kind>", "the cluster's store").choices(["etcd", "redis"]).default("etcd"))
    .option("--embedded", "play in one process, without namespaces", false)
    .addOption(new Option("--inside <prefix>").hideHelp())
    .addOption(new Option("--directory <path>").hideHelp())
    .addOption(new Option("--enter <command>").hideHelp())
    .parse(argv);
  const flags = program.opts<LabFlags>();
  if (flags.inside !== undefined && flags.directory !== undefined) {
    const { inside: prefix, directory, store, enter = "" } = flags;
    process.exitCode = await perform(flags, () =>
      NamespaceWorld.start({ prefix, directory, store, enter, sessionTtl: "5s", quarantine: "5s" }),
    );
    return;
  }
  const obstacle = flags.embedded ? "asked to" : obstacleToNamespaces();
  if (obstacle !== undefined) {
    console.log(`Playing in one process, on embedded parts (memory store, simulated kernel): ${obstacle}.`);
    process.exitCode = await perform(flags, () => EmbeddedWorld.start());
    return;
  }
  process.exitCode = process.getuid?.() === 0 ? await outside(argv, flags) : reenterAsRoot(argv);
}

/** Makes the namespaces, runs the lab inside, and cleans up whatever became of it. */
async function outside(argv: readonly string[], flags: LabFlags): Promise<number> {
  const left = await removeLeftovers();
  if (left > 0) console.log(`removed ${left} namespaces that a killed lab had left`);
  const prefix = namespacePrefix(process.pid);
  const directory = mkdtempSync(join(tmpdir(), "cocoon-lab-"));
  const fabric = `${prefix}-fabric`;
  const userNamespace = process.env.COCOON_LAB_USER_NAMESPACE !== undefined;
  const enter = userNamespace
    ? `nsenter --preserve-credentials -U -m -t ${process.pid} ip netns exec ${fabric}`
    : `sudo ip netns exec ${fabric}`;
  // Both stages see the terminal's Ctrl-C; only the inner one acts on it, and this one cleans up after it.
  const ignore = (): void => {};
  process.on("SIGINT", ignore);
  try {
    spawnSync("ip", ["netns", "add", fabric], { stdio: "inherit" });
    const script = argv[1] ?? "";
    const args = [
      "netns",
      "exec",
      fabric,
      process.execPath,
      script,
      "--inside",
      prefix,
      "--directory",
      directory,
    ];
    const child = spawn(
      "ip",
      [...args, "--enter", enter, "--store", flags.store, ...(flags.once ? ["--once"] : [])],
      {
        stdio: "inherit",
      },
    );
    process.on("SIGTERM", () => child.kill("SIGTERM"));
    const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
    if (signal !== null) console.error(`the lab was ended by ${signal}`);
    return code ?? 1;
  } finally {
    await removeNamespaces(prefix);
    rmSync(directory, { recursive: true, force: true });
    process.off("SIGINT", ignore);
  }
}

async function perform(flags: LabFlags, start: () => Promise<World>): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
  const timeline = new Timeline();
  let world: World | undefined;
  try {
    world = await start();
    timeline.done(world.description);
    const following = followEvents(world.store, timeline, stop.signal);
    // Its failure would show in the story's own checks too; the story must not hang on it.
    following.catch((error: unknown) =>
      timeline.failed(`the event log cannot be followed: ${describeError(error)}`),
    );
    await play(world, timeline, stop.signal);
    timeline.done("the story is over; every step held");
    if (!flags.once) {
      timeline.text(`\nThe cluster stays up. Look inside from another terminal:\n`);
      for (const line of world.lookInside()) timeline.text(`  ${line}`);
      timeline.text("\nCtrl-C ends it and cleans up.");
      await waitFor(stop.signal);
    }
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return flags.once ? 1 : 0;
    timeline.failed(describeError(error));
    for (const { name, tail } of (await world?.logs()) ?? []) console.error(`--- ${name}\n${tail}`);
    return 1;
  } finally {
    stop.abort();
    if (world) timeline.text("cleaning up");
    await world?.[Symbol.asyncDispose]();
  }
}

/** Root in a user namespace of one's own can make network namespaces, where the kernel allows it. */
function reenterAsRoot(argv: readonly string[]): number {
  const setUp = 'mount -t tmpfs tmpfs /run && mkdir /run/netns && exec "$@"';
  const inner = ["sh", "-c", setUp, "lab", process.execPath, ...argv.slice(1)];
  const result = spawnSync("unshare", ["--user", "--map-root-user", "--mount", "--net", ...inner], {
    stdio: "inherit",
    env: { ...process.env, COCOON_LAB_USER_NAMESPACE: "1" },
  });
  return result.status ?? 1;
}

/** Why namespaces cannot be had here; undefined when they can. */
function obstacleToNamespaces(): string | undefined {
  if (process.platform !== "linux") return `network namespaces need Linux, this is ${process.platform}`;
  for (const program of ["ip", "iptables", "udhcpc", "ping", "setpriv", "unshare"]) {
    if (spawnSync("sh", ["-c", `command -v ${program}`]).status !== 0) return `${program} is not installed`;
  }
  const probe =
    process.getuid?.() === 0 ? ["--net", "--mount"] : ["--user", "--map-root-user", "--mount", "--net"];
  const made = spawnSync("unshare", [...probe, "ip", "link", "add", "probe0", "type", "bridge"], {
    encoding: "utf8",
  });
  return made.status === 0
    ? undefined
    : `the kernel refuses network namespaces (${made.stderr.trim().split("\n")[0]})`;
}

async function waitFor(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  // A timer keeps the process up; the signal's listener alone would not.
  const alive = setInterval(() => {}, 60_000);
  await once(signal, "abort");
  clearInterval(alive);
}
