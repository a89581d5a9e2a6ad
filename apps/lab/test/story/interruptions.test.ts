import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { comesTrue, LabRun, timeout } from "./lab-run.ts";

test.concurrent("a story whose store dies fails with that reason and the store's last words", {
  timeout,
}, async () => {
  await using lab = new LabRun({ args: ["--once"] });
  await lab.printed("leads the controllers");
  process.kill(await lab.process(/ --listen-peer-urls /), "SIGKILL");
  expect(await lab.exitCode()).toBe(1);
  expect(lab.output).toMatch(/✗ failed at ".*": etcd has ended.*\n--- etcd has ended\n\{/);
  await lab.leavesNothing();
});

test.concurrent("a story whose agent dies fails with that reason and the agent's log", {
  timeout,
}, async () => {
  await using lab = new LabRun({ args: ["--once"] });
  await lab.printed("n1 is up");
  process.kill(await lab.process(/cocoon-net\.js daemon .*\/n1\//), "SIGKILL");
  expect(await lab.exitCode()).toBe(1);
  expect(lab.output).toMatch(/n1-daemon has ended: SIGKILL.*\n--- n1-daemon: SIGKILL\n/);
  await lab.leavesNothing();
});

test.concurrent("Ctrl-C in the middle of the story leaves nothing", { timeout }, async () => {
  await using lab = new LabRun({ args: ["--once"] });
  await lab.printed("n1-vm1 got");
  lab.signal("SIGINT", "group");
  expect(await lab.exitCode()).toBe(130);
  expect(lab.output).toContain("interrupted");
  await lab.leavesNothing();
});

test.concurrent("a second Ctrl-C ends it at once, and leaves nothing either", { timeout }, async () => {
  await using lab = new LabRun({ args: ["--once"] });
  await lab.printed("n1 is up");
  lab.signal("SIGINT", "group");
  lab.signal("SIGINT", "group");
  expect(await lab.exitCode()).toBe(130);
  await lab.leavesNothing();
});

test.concurrent("what a killed lab leaves is removed by the next one", { timeout: 2 * timeout }, async () => {
  await using view = await ownView();
  await using killed = new LabRun({ args: ["--once"], ...view });
  await killed.printed("n1 is up");
  killed.signal("SIGKILL", "process");
  expect(await killed.exitCode()).toBeNull();
  expect(killed.traces()).toEqual(expect.arrayContaining([`cocoon${killed.pid}-n1`]));

  await using next = new LabRun({ args: ["--once"], temporary: killed.temporary, ...view });
  await next.printed("the VPC and etcd");
  expect(next.output).toMatch(/removed \d+ namespaces and directories/);
  await comesTrue(() => {
    const left = killed.traces().filter((trace) => !trace.startsWith(`cocoon-lab-${next.pid}-`));
    expect(left).toEqual([]);
  });
});

/** Where only these runs see each other's namespaces: labs of other tests would remove what a killed one leaves, too. */
async function ownView(): Promise<AsyncDisposable & { readonly through: string[]; readonly netns: string }> {
  const script = "mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns; echo ready; exec sleep infinity";
  const argv = ["--pdeathsig", "KILL", "unshare", "--mount", "sh", "-ec", script];
  const holder = spawn("setpriv", argv, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(holder, "exit");
  await Promise.race([once(holder.stdout, "data"), ended]);
  return {
    through: ["nsenter", `--mount=/proc/${holder.pid}/ns/mnt`],
    netns: `/proc/${holder.pid}/root/run/netns`,
    async [Symbol.asyncDispose]() {
      holder.kill("SIGKILL");
      await ended;
    },
  };
}
