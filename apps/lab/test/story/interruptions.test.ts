import { expect, test } from "vitest";
import { LabRun } from "./lab-run.ts";

const timeout = 60_000;

test("a story whose store dies fails with that reason and the store's last words", { timeout }, async () => {
  await using lab = new LabRun({ args: ["--once"] });
  await lab.printed("leads the controllers");
  const etcd = lab.processes().find(({ command }) => command.includes("--listen-peer-urls"));
  process.kill(etcd?.pid ?? 0, "SIGKILL");
  expect(await lab.exitCode()).toBe(1);
  expect(lab.output).toMatch(/✗ failed at ".*": etcd has ended.*\n--- etcd has ended\n\{/);
  expect(lab.traces()).toEqual([]);
});

test("a story whose agent dies fails with that reason and the agent's log", { timeout }, async () => {
  await using lab = new LabRun({ args: ["--once"] });
  await lab.printed("n1 is up");
  const daemon = lab.processes().find(({ command }) => /cocoon-net\.js daemon .*\/n1\//.test(command));
  process.kill(daemon?.pid ?? 0, "SIGKILL");
  expect(await lab.exitCode()).toBe(1);
  expect(lab.output).toMatch(/n1-daemon has ended: SIGKILL.*\n--- n1-daemon: SIGKILL\n/);
  expect(lab.traces()).toEqual([]);
});

test("Ctrl-C in the middle of the story leaves nothing", { timeout }, async () => {
  await using lab = new LabRun({ args: ["--once"] });
  await lab.printed("n1-vm1 got");
  lab.signal("SIGINT", "group");
  expect(await lab.exitCode()).toBe(130);
  expect(lab.output).toContain("interrupted");
  expect(lab.traces()).toEqual([]);
});

test("a second Ctrl-C ends it at once, and leaves nothing either", { timeout }, async () => {
  await using lab = new LabRun({ args: ["--once"] });
  await lab.printed("n1 is up");
  lab.signal("SIGINT", "group");
  lab.signal("SIGINT", "group");
  expect(await lab.exitCode()).toBe(130);
  expect(lab.traces()).toEqual([]);
});

test("what a killed lab leaves is removed by the next one", { timeout }, async () => {
  await using killed = new LabRun({ args: ["--once"] });
  await killed.printed("n1 is up");
  killed.signal("SIGKILL", "process");
  expect(await killed.exitCode()).toBeNull();
  expect(killed.traces()).toEqual(expect.arrayContaining([`cocoon${killed.pid}-n1`]));

  await using next = new LabRun({ args: ["--once"], temporary: killed.temporary });
  await next.printed("the VPC and etcd");
  expect(next.output).toMatch(/removed \d+ namespaces and directories/);
  expect(killed.traces().filter((trace) => !trace.startsWith(`cocoon-lab-${next.pid}-`))).toEqual([]);
});
