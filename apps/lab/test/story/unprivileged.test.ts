import { spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { checkout, LabRun, timeout } from "./lab-run.ts";

const nobody = "65534";

/** Makes the checkout readable for everybody at another place, whoever may enter its parents, and becomes nobody. */
const becomeNobody = [
  ...["unshare", "--mount", "sh", "-ec"],
  `mount -t tmpfs -o mode=755 tmpfs /mnt
  mkdir /mnt/checkout
  mount --bind "$1" /mnt/checkout
  chown ${nobody} "$TMPDIR"
  shift
  exec setpriv --reuid=${nobody} --regid=${nobody} --clear-groups -- env HOME="$TMPDIR" PATH=/usr/bin:/bin "$@"`,
  ...["lab", checkout],
];

test("without root it plays in namespaces where the kernel allows them, and leaves nothing", {
  timeout,
}, async () => {
  const isRoot = process.getuid?.() === 0;
  const temporary = mkdtempSync(join(tmpdir(), "lab-test-"));
  const probe = [...(isRoot ? becomeNobody : []), "unshare", "--user", "--map-root-user", "--mount", "true"];
  const [program = "", ...args] = probe;
  const allowed = spawnSync(program, args, { env: { ...process.env, TMPDIR: temporary } }).status === 0;

  await using lab = new LabRun({
    args: ["--once"],
    temporary,
    ...(isRoot ? { through: becomeNobody, checkout: "/mnt/checkout" } : {}),
  });
  await lab.printed("every lease is in its node's leases.json and in the store");
  expect(lab.output).toContain(allowed ? "the VPC and etcd" : "Playing in one process");
  lab.signal("SIGTERM", "process");
  expect(await lab.exitCode()).toBe(130);
  await lab.leavesNothing();
});
