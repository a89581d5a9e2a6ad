import { readdir, readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { AgentNode } from "./support/agent-node.ts";
import { Running, until } from "./support/command.ts";

const subnet = ["--subnet", "10.99.0.0/24"];

it("a pid file that nobody holds any more is taken over", { timeout: 180_000 }, async () => {
  await using node = await AgentNode.create();
  await node.adopt(...subnet);
  // No such process; another program that got the pid; a program that only mentions ours; nonsense.
  await using stranger = new Running("sleep", ["sleep", "infinity"]);
  await using mention = new Running("another command", idle("cocoon-net", "status"));
  for (const text of ["999999999\n", `${stranger.pid}\n`, `${mention.pid}\n`, "what?\n", ""]) {
    await node.write("daemon.pid", text);
    const daemon = await node.daemon();
    expect(await readFile(node.path("daemon.pid"), "utf8")).toBe(`${daemon.pid}\n`);
    expect(await daemon.kill()).toBe("exit code 0");
    expect((await readdir(node.directory)).filter((name) => name.includes("pid"))).toEqual([]);
  }
});

it("the pid file of the program before it is respected", { timeout: 180_000 }, async () => {
  await using node = await AgentNode.create();
  await node.adopt(...subnet);
  await using old = new Running("the old daemon", idle("/usr/local/bin/cocoon-net", "daemon"));
  await node.write("daemon.pid", `${old.pid}\n`);
  const refused = await node.run(...node.daemonArgs());
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain(`another cocoon-net daemon is running (pid ${old.pid})`);
  expect(await readFile(node.path("daemon.pid"), "utf8")).toBe(`${old.pid}\n`);
});

it("of daemons that start at once one serves and the others say why not", { timeout: 180_000 }, async () => {
  await using node = await AgentNode.create();
  await node.adopt(...subnet);
  for (const left of [undefined, "999999999\n"]) {
    if (left !== undefined) await node.write("daemon.pid", left);
    const racers = [1, 2, 3].map(
      (n) => new Running(`racer ${n}`, node.argv(node.daemonArgs()), node.environment),
    );
    try {
      await until("one to serve and the others to end", () => {
        const serving = racers.filter(
          (racer) => racer.output.includes('"serving"') && racer.ended === undefined,
        );
        return serving.length === 1 && racers.filter((racer) => racer.ended === "exit code 1").length === 2;
      });
      const winner = racers.find((racer) => racer.ended === undefined);
      expect(await readFile(node.path("daemon.pid"), "utf8")).toBe(`${winner?.pid}\n`);
      for (const loser of racers.filter((racer) => racer !== winner)) {
        const last = loser.output.trimEnd().split("\n").at(-1) ?? "";
        expect(last).toMatch(
          /^cocoon-net: (another cocoon-net daemon is running|pid file|UDP port 67 on cni0)/,
        );
      }
    } finally {
      for (const racer of racers) await racer.kill("SIGTERM");
    }
  }
});

/** A process that does nothing, with these words in its command line. */
function idle(...words: string[]): string[] {
  return [process.execPath, "-e", "setInterval(() => {}, 60_000)", ...words];
}
