import { expect, test } from "vitest";
import { LabRun, timeout } from "./lab-run.ts";

test.concurrent("an address moves three times with its VM, and a connection goes on", {
  timeout,
}, async () => {
  await using lab = new LabRun({ args: ["--once", "--story", "migration"] });
  const code = await lab.exitCode();
  expect(code, lab.output).toBe(0);
  expect(lab.output.match(/the connection went on/g)).toHaveLength(3);
  expect(lab.output).toMatch(/the story is over and every step held: three moves/);
  await lab.leavesNothing();
});

test.concurrent("a story that needs namespaces is refused where there are none", { timeout }, async () => {
  await using lab = new LabRun({ args: ["--once", "--story", "migration", "--embedded"] });
  expect(await lab.exitCode()).toBe(1);
  expect(lab.output).toContain("the story migration needs network namespaces");
});
