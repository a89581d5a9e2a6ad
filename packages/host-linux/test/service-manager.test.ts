import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { notifyServiceManager, watchdogMs } from "../src/service-manager.ts";

/** What arrives at a datagram socket, as systemd has one. */
async function receiveOne(path: string, send: () => void): Promise<string> {
  const script = `use Socket; $| = 1; alarm 10; my $path = shift; $path =~ s/^@/\\0/;
socket(S, PF_UNIX, SOCK_DGRAM, 0) or die $!; bind(S, pack_sockaddr_un($path)) or die $!;
print "bound\\n"; recv(S, my $said, 200, 0); print $said`;
  const child = execFile("perl", ["-e", script, path]);
  const text: string[] = [];
  child.stdout?.setEncoding("utf8");
  for await (const chunk of child.stdout ?? []) {
    if (text.length === 0) send();
    text.push(String(chunk));
  }
  return text.join("").replace(/^bound\n/, "");
}

it("systemd is told, by a path and in the abstract namespace", { timeout: 20_000 }, async () => {
  const directory = await mkdtemp(join(tmpdir(), "notify-"));
  try {
    for (const path of [join(directory, "notify"), `@cocoon-net-${process.pid}`]) {
      const said = await receiveOne(path, () =>
        notifyServiceManager("READY=1\nSTATUS=serving", { NOTIFY_SOCKET: path }),
      );
      expect(said).toBe("READY=1\nSTATUS=serving");
    }
  } finally {
    await rm(directory, { recursive: true });
  }
  expect(() => notifyServiceManager("READY=1", { NOTIFY_SOCKET: join(directory, "gone") })).toThrow(/ENOENT/);
  notifyServiceManager("READY=1", {});
});

it("a sign of life is due as often as systemd says, for the process that it means", () => {
  expect(watchdogMs({})).toBeUndefined();
  expect(watchdogMs({ WATCHDOG_USEC: "30000000" })).toBe(30_000);
  expect(watchdogMs({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "7" }, 7)).toBe(30_000);
  expect(watchdogMs({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "7" }, 8)).toBeUndefined();
});
