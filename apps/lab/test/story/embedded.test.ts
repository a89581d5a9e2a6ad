import { expect, test } from "vitest";
import { missingLines } from "./key-lines.ts";
import { LabRun } from "./lab-run.ts";

test("the story plays to its end in one process and leaves nothing", { timeout: 60_000 }, async () => {
  await using lab = new LabRun({ args: ["--once", "--embedded"] });
  const code = await lab.exitCode();
  expect({ code, missing: missingLines(lab.output) }, lab.output).toEqual({ code: 0, missing: [] });
  expect(lab.traces()).toEqual([]);
});

test("Ctrl-C in the middle of it leaves nothing", { timeout: 60_000 }, async () => {
  await using lab = new LabRun({ args: ["--once", "--embedded"] });
  await lab.printed("n2 is up");
  lab.signal("SIGINT", "group");
  expect(await lab.exitCode()).toBe(130);
  expect(lab.traces()).toEqual([]);
});

test("without --once it stays up until it is asked to end, and that is no failure", async () => {
  await using lab = new LabRun({ args: ["--embedded"] });
  await lab.printed("Ctrl-C ends it and cleans up");
  lab.signal("SIGTERM", "process");
  expect(await lab.exitCode()).toBe(0);
  expect(lab.traces()).toEqual([]);
});
