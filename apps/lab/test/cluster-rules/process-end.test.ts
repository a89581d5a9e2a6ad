import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { within } from "@cocoon-net/store-testkit";
import { expect, it } from "vitest";

it("a process whose heartbeat and campaign were stopped ends by itself: no timer is left", {
  timeout: 90_000,
}, async () => {
  const program = fileURLToPath(new URL("stop-and-end.ts", import.meta.url));
  const child = spawn(process.execPath, ["--conditions=@cocoon-net/source", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const [[line]] = await within(
      "the stop",
      60_000,
      Promise.all([once(child.stdout, "data"), once(child, "exit")]),
    );
    expect(String(line)).toBe("stopped\n");
    expect(child.exitCode).toBe(0);
  } finally {
    child.kill("SIGKILL");
  }
});
