import { expect, test } from "vitest";
import { missingLines } from "./key-lines.ts";
import { LabRun, timeout } from "./lab-run.ts";

test.concurrent("the story plays to its end in one process and leaves nothing", { timeout }, async () => {
  await using lab = new LabRun({ args: ["--once", "--embedded"] });
  const code = await lab.exitCode();
  expect({ code, missing: missingLines(lab.output) }, lab.output).toEqual({ code: 0, missing: [] });
  await lab.leavesNothing();
});

test.concurrent("Ctrl-C in the middle of it leaves nothing", { timeout }, async () => {
  await using lab = new LabRun({ args: ["--once", "--embedded"] });
  await lab.printed("n2 is up");
  lab.signal("SIGINT", "group");
  expect(await lab.exitCode()).toBe(130);
  await lab.leavesNothing();
});

test.concurrent("without --once it stays up until it is asked to end, and that is no failure", {
  timeout,
}, async () => {
  await using lab = new LabRun({ args: ["--embedded"] });
  await lab.printed("Ctrl-C ends it and cleans up");
  lab.signal("SIGTERM", "process");
  expect(await lab.exitCode()).toBe(0);
  await lab.leavesNothing();
});
