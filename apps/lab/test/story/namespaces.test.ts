import { describe, expect, test } from "vitest";
import { missingLines } from "./key-lines.ts";
import { LabRun, timeout } from "./lab-run.ts";

describe.concurrent.for(["etcd", "redis"] as const)("on %s", (store) => {
  test("the story plays to its end in namespaces and leaves nothing", { timeout }, async () => {
    await using lab = new LabRun({ args: ["--once", "--store", store] });
    const code = await lab.exitCode();
    expect({ code, missing: missingLines(lab.output) }, lab.output).toEqual({ code: 0, missing: [] });
    expect(lab.output).toContain(`the VPC and ${store === "etcd" ? "etcd 3." : "Redis"}`);
    await lab.leavesNothing();
  });
});
