import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { initCluster, parseConnectionUrl, Registry } from "@cocoon-net/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import driver from "../src/driver.ts";

const here = fileURLToPath(new URL("..", import.meta.url));
const main = import.meta.resolve("@cocoon-net/agent");
const directory = mkdtempSync(join(tmpdir(), "third-party-"));
const store = `sqlite://${join(directory, "cluster.db")}`;
afterAll(() => rmSync(directory, { recursive: true, force: true }));
// What npm would install is the built package.
beforeAll(() => {
  execFileSync(process.execPath, [
    fileURLToPath(new URL("bin/tsc", import.meta.resolve("typescript/package.json"))),
    "-b",
    here,
  ]);
}, 120_000);

interface Finished {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

/** `cocoon-net ARGS`, in a process of its own. */
async function cocoonNet(cwd: string, ...args: readonly string[]): Promise<Finished> {
  const program = `const { main } = await import(${JSON.stringify(main)}); await main(process.argv)`;
  const argv = [
    "--conditions=@cocoon-net/source",
    "--input-type=module",
    "-e",
    program,
    "--",
    "cocoon-net",
    ...args,
  ];
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, argv, { cwd, timeout: 60_000 });
    return { stdout, stderr, code: 0 };
  } catch (error) {
    return error as Finished;
  }
}

describe("a third party's store", { timeout: 120_000 }, () => {
  it("is opened by its own scheme when the config names its package", async () => {
    const config = join(directory, "cocoon-net.yaml");
    writeFileSync(config, `store: ${store}\ndrivers:\n  sqlite: ${join(here, "dist/driver.js")}\n`);
    const init = await cocoonNet("/", "--config", config, "cluster", "init", "--parent-cidr", "10.0.0.0/16");
    expect(init).toMatchObject({
      code: 0,
      stdout: `cluster in ${store}: 10.0.0.0/16 in /24 subnets on volcengine\n`,
    });

    await using opened = await driver.open(parseConnectionUrl(store));
    await new Registry(opened).register({ node: "n1", uid: "i-1", agentVersion: "1" });
    const nodes = await cocoonNet("/", "cluster", "nodes", "--config", config, "-o", "json");
    expect(JSON.parse(nodes.stdout)).toMatchObject([{ node: "n1", subnet: "10.0.0.0/24" }]);
    expect((await cocoonNet("/", "--config", config, "store", "check")).code).toBe(0);
  });

  it("is found by its package's name where it is installed, and nowhere else", async () => {
    const site = join(directory, "site");
    mkdirSync(join(site, "node_modules"), { recursive: true });
    symlinkSync(here, join(site, "node_modules", "cocoon-net-store-sqlite"));
    const database = `sqlite://${join(directory, "found.db")}`;
    const init = ["cluster", "init", "--parent-cidr", "10.0.0.0/16", "--store", database];
    expect(await cocoonNet(site, ...init)).toMatchObject({ code: 0 });
    const elsewhere = await cocoonNet(directory, ...init);
    expect(elsewhere.code).toBe(1);
    expect(elsewhere.stderr.trim().split("\n")).toEqual([
      expect.stringMatching(
        /^cocoon-net: unknown store scheme "sqlite:": .* has no package .*cocoon-net-store-sqlite; /,
      ),
    ]);
  });

  it("gives processes that register at once a subnet each", async () => {
    const database = `sqlite://${join(directory, "race.db")}`;
    await using opened = await driver.open(parseConnectionUrl(database));
    await initCluster(opened, { parentCIDR: "10.0.0.0/16", platform: "none" });
    const program = `
      const [{ parseConnectionUrl, Registry }, { default: driver }] = await Promise.all(
        [${JSON.stringify(import.meta.resolve("@cocoon-net/core"))}, ${JSON.stringify(new URL("../src/driver.ts", import.meta.url).href)}].map((url) => import(url)));
      await using store = await driver.open(parseConnectionUrl(${JSON.stringify(database)}));
      for (let at = 0; at < 15; at++) {
        const node = "p" + process.pid + "-" + at;
        console.log((await new Registry(store).register({ node, uid: node, agentVersion: "1" })).subnet);
      }`;
    const argv = ["--conditions=@cocoon-net/source", "--input-type=module", "-e", program];
    const runs = await Promise.all(
      [1, 2, 3].map(() => promisify(execFile)(process.execPath, argv, { timeout: 60_000 })),
    );
    const subnets = runs.flatMap(({ stdout }) => stdout.trim().split("\n"));
    expect([subnets.length, new Set(subnets).size]).toEqual([45, 45]);
  });
});
