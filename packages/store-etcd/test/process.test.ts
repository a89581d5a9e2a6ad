import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { openEtcdStore } from "@cocoon-net/store-etcd";
import { startEtcd, startFaultProxy, until, within } from "@cocoon-net/store-testkit";
import { describe, expect, it } from "vitest";

/** Opens, watches, holds a session; disposes when told to. It must then end without being told to. */
const program = `
  import { openEtcdStore } from "@cocoon-net/store-etcd";
  const store = await openEtcdStore(process.argv[1]);
  const session = await store.session(5_000);
  await store.txn({ then: [{ put: "alive/n1", value: "{}", session }] });
  session.signal.addEventListener("abort", () => console.log("session over"));
  const watch = (async () => { for await (const batch of store.watch("alive/")) console.log(batch.type); })();
  process.stdin.once("data", async () => {
    await store[Symbol.asyncDispose]();
    await watch;
    console.log("disposed");
    process.stdin.destroy();
  });
`;

function run(port: number): ChildProcessByStdio<Writable, Readable, null> {
  return spawn(
    process.execPath,
    [
      ...["--conditions=@cocoon-net/source", "--input-type=module", "--eval", program],
      `etcd://127.0.0.1:${port}`,
    ],
    { cwd: import.meta.dirname, stdio: ["pipe", "pipe", "inherit"] },
  );
}

describe("a process that uses etcd", () => {
  for (const fault of ["none", "refuse", "blackhole"] as const) {
    it(`ends by itself after it has disposed the store (fault: ${fault})`, async () => {
      await using server = await startEtcd();
      await using proxy = await startFaultProxy({ target: server });
      const child = run(proxy.port);
      try {
        let output = "";
        child.stdout.setEncoding("utf8").on("data", (text: string) => {
          output += text;
        });
        await until("the watch to run", 15_000, () => output.includes("snapshot"));
        if (fault !== "none") await proxy[fault]();
        const exited = once(child, "exit");
        child.stdin.write("dispose\n");
        await until("the disposal", 5_000, () => output.includes("disposed"));
        expect(await within("the end of the process", 5_000, exited)).toEqual([0, null]);
      } finally {
        child.kill("SIGKILL");
      }
    });
  }

  it("knows that its session is over when it goes on after a long stop", async () => {
    await using server = await startEtcd();
    await using store = await openEtcdStore(`etcd://127.0.0.1:${server.port}`);
    const child = run(server.port);
    try {
      let output = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
      await until("the watch to run", 15_000, () => output.includes("snapshot"));
      child.kill("SIGSTOP");
      await until("its key to vanish", 15_000, async () => (await store.get("alive/n1")).entry === undefined);
      child.kill("SIGCONT");
      await until("it to know", 1_000, () => output.includes("session over"));
    } finally {
      child.kill("SIGKILL");
    }
  });
});
