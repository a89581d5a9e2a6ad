import { mkdir, stat } from "node:fs/promises";
import { expect, it } from "vitest";
import { StateDirectory } from "../src/state-directory.ts";
import { AgentNode } from "./support/agent-node.ts";
import { finish } from "./support/command.ts";

it("a device that is named as a file is refused in one line, and stays a device", {
  timeout: 180_000,
}, async () => {
  await using node = await AgentNode.create();
  const device = node.path("null");
  await node.namespace.exec("mknod", device, "c", "1", "3");
  const refused = async (args: readonly string[], what = "is not a regular file"): Promise<void> => {
    const { code, stderr } = await finish(node.argv(args), { env: node.environment });
    expect(stderr.split("\n").filter((line) => line.startsWith("cocoon-net: "))).toEqual([
      expect.stringContaining(`${device} ${what}: it is left alone`),
    ]);
    expect(code).toBe(1);
    expect((await stat(device)).isCharacterDevice()).toBe(true);
  };

  const adopt = node.setUpArgs("adopt", "--subnet", "10.99.0.0/24");
  await refused([...adopt, "--cni-conflist", device]);
  await node.do(...adopt);
  const files = ["--state-dir", node.path("state"), "--pid-file", node.path("daemon.pid")];
  await refused(node.daemonArgs("--pid-file", device));
  await refused(node.daemonArgs("--lease-file", device));
  await refused(node.daemonArgs("--control-socket", device), "is not a socket");
  await refused(["teardown", ...files, "--lease-file", device]);

  // The files of the state directory, as symbolic links.
  await mkdir(node.path("linked"));
  await node.namespace.exec("ln", "-s", device, node.path("linked/pool.json"));
  const { code, stderr } = await node.run(
    ...["adopt", "--platform", "gke", "--node-name", "n1", "--subnet", "10.99.0.0/24"],
    ...["--state-dir", node.path("linked"), "--cni-conflist", node.path("30-cocoon-dhcp.conflist")],
  );
  expect(stderr).toContain("linked/pool.json is not a regular file: it is left alone");
  expect(code).toBe(1);
  expect((await stat(device)).isCharacterDevice()).toBe(true);
});

it("a state directory where there can be none is refused at once", async () => {
  await expect(new StateDirectory("/proc/none/of/it").create()).rejects.toThrow(
    /^state directory \/proc\/none\/of\/it cannot be made: ENOENT/,
  );
});
