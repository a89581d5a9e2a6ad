import { expect, it } from "vitest";
import { Gate } from "../src/cloud-gate.ts";

/** A visitor who stays until it is let out. */
function visit(gate: Gate, how: "together" | "alone", signal?: AbortSignal) {
  const { promise, resolve } = Promise.withResolvers<void>();
  const visitor = { inside: false, leave: resolve, passed: Promise.resolve() };
  const run = async (): Promise<void> => {
    visitor.inside = true;
    await promise;
    visitor.inside = false;
  };
  visitor.passed = how === "alone" ? gate.alone(run, signal) : gate.together(run, signal);
  return visitor;
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}

it("lets any number pass together, or one alone, by turns", async () => {
  const gate = new Gate();
  const [first, second] = [visit(gate, "together"), visit(gate, "together")];
  const alone = visit(gate, "alone");
  const [late, next] = [visit(gate, "together"), visit(gate, "alone")];
  await settle();
  expect([first.inside, second.inside, alone.inside, late.inside]).toEqual([true, true, false, false]);
  first.leave();
  await settle();
  expect(alone.inside).toBe(false);
  second.leave();
  await settle();
  expect([alone.inside, late.inside]).toEqual([true, false]);
  const later = visit(gate, "together");
  alone.leave();
  await settle();
  expect([late.inside, later.inside, next.inside]).toEqual([true, true, false]);
  const last = visit(gate, "together");
  for (const visitor of [late, later]) visitor.leave();
  await settle();
  expect([next.inside, last.inside]).toEqual([true, false]);
  for (const visitor of [next, last]) visitor.leave();
  await Promise.all([next.passed, last.passed]);
});

it("is left by one who fails, and by one who stops waiting", async () => {
  const gate = new Gate();
  await expect(gate.alone(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
  const holder = visit(gate, "together");
  const abort = new AbortController();
  const impatient = visit(gate, "alone", abort.signal);
  const next = visit(gate, "together");
  await settle();
  expect(next.inside).toBe(false);
  abort.abort(new Error("enough"));
  await expect(impatient.passed).rejects.toThrow("enough");
  expect(next.inside).toBe(true);
  for (const visitor of [holder, next]) visitor.leave();
  await Promise.all([holder.passed, next.passed]);
});
