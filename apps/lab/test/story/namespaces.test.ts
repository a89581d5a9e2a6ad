import { describe, expect, test } from "vitest";
import { missingLines } from "./key-lines.ts";
import { LabRun } from "./lab-run.ts";

describe.for(["etcd", "redis"] as const)("on %s", (store) => {
  test("the story plays to its end in namespaces and leaves nothing", { timeout: 190_000 }, async () => {
    await using lab = new LabRun({ args: ["--once", "--store", store] });
    const code = await lab.exitCode();
    expect({ code, missing: missingLines(lab.output) }, lab.output).toEqual({ code: 0, missing: [] });
    expect(lab.output).toContain(`the VPC and ${store === "etcd" ? "etcd 3." : "Redis"}`);
    expect(lab.traces()).toEqual([]);
  });
});
