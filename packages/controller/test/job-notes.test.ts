import type { JobStep } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { withStep } from "../src/intent.ts";

function step(phase: JobStep["phase"], key = "eni-1"): JobStep {
  return { action: "Detach", phase, key };
}

test("a step that is written again becomes the newest, and the note does not grow", () => {
  const before = [step("intent"), step("failed"), step("intent", "eni-2")];
  expect(withStep(before, step("intent"))).toEqual([step("failed"), step("intent", "eni-2"), step("intent")]);
});

test("failures are kept, up to a bound", () => {
  let steps: JobStep[] = [];
  for (let index = 0; index < 3; index++) steps = withStep(withStep(steps, step("intent")), step("failed"));
  expect(steps.map(({ phase }) => phase)).toEqual(["failed", "failed", "intent", "failed"]);
  for (let index = 0; index < 1_000; index++) steps = withStep(steps, step("failed"));
  expect(steps.filter(({ phase }) => phase === "failed")).toHaveLength(32);
});
