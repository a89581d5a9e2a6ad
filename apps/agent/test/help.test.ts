import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { createProgram } from "../src/program.ts";
import { AgentNode } from "./support/agent-node.ts";
import { runCommand } from "./support/run-command.ts";

const run = promisify(execFile);
const context = {
  signal: new AbortController().signal,
  env: {},
  screen: undefined,
  print: () => undefined,
  say: () => undefined,
  requireRoot: () => undefined,
};
type Program = ReturnType<typeof createProgram>;

function leaves(command: Program, path: readonly string[] = []): { command: Program; path: string }[] {
  if (command.commands.length === 0) return [{ command, path: path.join(" ") }];
  return command.commands.flatMap((inner) => leaves(inner, [...path, inner.name()]));
}

describe("--help", () => {
  it("of every command ends with an example that it takes", () => {
    for (const { command, path } of leaves(createProgram(context))) {
      let text = "";
      command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
      const [, example = ""] = /\nExample:\n {2}(.+)\n$/.exec(text) ?? [];
      expect(example, path).toContain(path);
      const flags = example.split(" ").filter((word) => /^--?[a-z]/.test(word));
      const known = command.options.flatMap(({ short, long }) => [short, long]);
      expect([...known, "--config"], path).toEqual(expect.arrayContaining(flags));
    }
  });
});

it("whose reader has gone ends quietly", async () => {
  const cli = fileURLToPath(new URL("../bin/cocoon-net.js", import.meta.url));
  const child = spawn(process.execPath, [cli, "cluster", "--help"], { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.destroy();
  let said = "";
  child.stderr.on("data", (text) => {
    said += String(text);
  });
  expect(await once(child, "close")).toEqual([0, null]);
  expect(said).toBe("");
});

describe("completion", () => {
  const all = leaves(createProgram(context));

  it.each(["bash", "zsh", "fish"])("for %s has every command and option", async (shell) => {
    const { out } = await runCommand(["completion", shell]);
    const script = out.join("\n");
    for (const { command, path } of all) {
      expect(script).toContain(path);
      for (const { long } of command.options) {
        expect(script).toContain(shell === "fish" ? `-l ${long?.slice(2)} ` : long);
      }
    }
    expect((await runCommand(["completion", "tcsh"])).failure).toMatch(/Allowed choices are bash, zsh, fish/);
  });

  it("completes in bash, at each place, past options", async () => {
    await using node = await AgentNode.create();
    const script = join(node.directory, "completion");
    await writeFile(script, (await runCommand(["completion", "bash"])).out.join("\n"));
    const complete = async (...words: string[]): Promise<string[]> => {
      const line = words.map((word) => `'${word}'`).join(" ");
      const program = `source ${script}; COMP_WORDS=(cocoon-net ${line}); COMP_CWORD=${words.length}; _cocoon_net; echo "\${COMPREPLY[@]}"`;
      return (await run("bash", ["-c", program])).stdout.trim().split(" ");
    };
    expect(await complete("tear")).toEqual(["teardown"]);
    expect(await complete("cluster", "sub")).toEqual(["subnets", "subnet"]);
    expect(await complete("--config", "x.yaml", "cluster", "nodes", "--sta")).toEqual(["--status"]);
    expect(await complete("daemon", "--lease-f")).toEqual(["--lease-file"]);
    expect(await complete("completion", "ba")).toEqual(["bash"]);
  });
});
