import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { keys } from "@cocoon-net/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { recordedRegistration } from "../src/cluster-membership.ts";
import { openStore } from "../src/drivers.ts";
import {
  contents,
  known,
  lease,
  onEtcd,
  onRedis,
  populate,
  register,
  usesBothStores,
} from "./support/both-stores.ts";
import { runCommand } from "./support/run-command.ts";

usesBothStores();

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "store-files-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

describe("store export, import and check", () => {
  it("brings a cluster back from a file", async () => {
    await using a = await openStore(onEtcd());
    const files = await populate(a, "n1", "n2");
    await using session = await a.session(60_000);
    await a.txn({ then: [{ put: keys.alive("n1"), value: "{}", session }] });
    const file = join(directory, "cluster.jsonl");
    const exported = await runCommand(["store", "export", "--store", onEtcd(), "--file", file]);
    expect(exported.failure).toBeUndefined();
    const lines = (await readFile(file, "utf8"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines[0]).toMatchObject({ format: "cocoon-net-store", schema: 1, revision: expect.any(Number) });
    expect(lines.at(-1)).toEqual({ end: lines.length - 2, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
    await register(a, "n3");

    const imported = await runCommand(["store", "import", "--file", file, "--store", onRedis()]);
    expect(imported.failure).toBeUndefined();
    await using b = await openStore(onRedis());
    await (await recordedRegistration(b, await known(files, "n2"))).verify();
    const shown = await runCommand(["cluster", "nodes", "--store", onRedis(), "-o", "json"]);
    expect(JSON.parse(shown.out.join("")).map((row: { node: string }) => row.node)).toEqual(["n1", "n2"]);
    const twice = await runCommand(["store", "import", "--file", file, "--store", onRedis()]);
    expect(twice.failure).toMatch(/holds this cluster already, and it is in use there/);
  });

  it("refuses half and changed files before anything is written", async () => {
    await using a = await openStore(onEtcd());
    await populate(a, "n1");
    const file = join(directory, "whole.jsonl");
    await runCommand(["store", "export", "--store", onEtcd(), "--file", file]);
    const text = await readFile(file, "utf8");
    const bad: Record<string, [string, RegExp]> = {
      cut: [text.slice(0, text.lastIndexOf('{"end"')), /cut\.jsonl ends in the middle, after \d+ records; /],
      torn: [text.slice(0, -50), /torn\.jsonl:\d+: is not JSON$/],
      changed: [text.replace("10.0.0.7", "10.0.0.8"), /changed\.jsonl is not as it was written/],
      more: [`${text}{}\n`, /more\.jsonl:\d+: there is more after the end$/],
      other: ["{}\n", /other\.jsonl:1: is not the beginning of a cocoon-net-store file/],
      empty: ["", /empty\.jsonl is empty; /],
    };
    for (const [name, [content, message]] of Object.entries(bad)) {
      await writeFile(join(directory, `${name}.jsonl`), content);
      const { failure } = await runCommand([
        "store",
        "import",
        "--file",
        join(directory, `${name}.jsonl`),
        "--store",
        onRedis(),
      ]);
      expect(failure).toMatch(message);
    }
    const missing = await runCommand(["store", "import", "--file", "/nowhere/x", "--store", onRedis()]);
    expect(missing.failure).toMatch(/^\/nowhere\/x cannot be read: ENOENT/);
    const unwritable = await runCommand(["store", "export", "--file", "/nowhere/x", "--store", onEtcd()]);
    expect(unwritable.failure).toMatch(/^\/nowhere\/x cannot be written: ENOENT/);
    expect(await contents(onRedis())).toEqual([]);
  });

  it("finds every record that is not as this version writes it", async () => {
    await using a = await openStore(onEtcd());
    await populate(a, "n1");
    expect((await runCommand(["store", "check", "--store", onEtcd()])).out).toEqual([
      expect.stringMatching(/^7 records of etcd:.*: all in order$/),
    ]);
    const spoiled = {
      "nodes/n2": '{"uid":"u","status":"asleep","lastSeen":"2026-01-01T00:00:00Z","subnet":"10.0.9.0/24"}',
      "pool/10.0.0.300": JSON.stringify(lease("n1", 1)),
      "slots/10.0.9.1/24": '{"node":"n1","uid":"u"}',
      "subnets/n3": "10.0.9.0/24",
    };
    const puts = Object.entries(spoiled).map(([put, value]) => ({ put, value }));
    await a.txn({ then: [...puts, { put: "elsewhere/x", value: "?" }] });
    const { out, said, failure } = await runCommand(["store", "check", "--store", onEtcd()]);
    expect(out.map((line) => line.slice(0, line.indexOf(": ")))).toEqual(Object.keys(spoiled));
    expect(said).toEqual([expect.stringContaining("elsewhere/x")]);
    expect(failure).toMatch(/^4 findings in 12 records of etcd:/);
    expect((await runCommand(["store", "check", "--store", onRedis()])).out).toEqual([
      "config: is missing: there is no cluster here",
    ]);
  });
});
