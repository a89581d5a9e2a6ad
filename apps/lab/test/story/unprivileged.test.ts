import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { missingLines } from "./key-lines.ts";
import { checkout, LabRun } from "./lab-run.ts";

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

test("the story plays without root, in namespaces where the kernel allows them", {
  timeout: 130_000,
}, async () => {
  const isRoot = process.getuid?.() === 0;
  const probe = [...(isRoot ? becomeNobody : []), "unshare", "--user", "--map-root-user", "--mount", "true"];
  const [program = "", ...args] = probe;
  const temporary = mkdtempSync(join(tmpdir(), "lab-test-"));
  chmodSync(temporary, 0o755);
  const allowed = spawnSync(program, args, { env: { ...process.env, TMPDIR: temporary } }).status === 0;

  await using lab = new LabRun({
    args: ["--once"],
    temporary,
    ...(isRoot ? { through: becomeNobody, checkout: "/mnt/checkout" } : {}),
  });
  const code = await lab.exitCode();
  expect({ code, missing: missingLines(lab.output), output: lab.output }).toMatchObject({
    code: 0,
    missing: [],
  });
  expect(lab.output).toContain(allowed ? "the VPC and etcd" : "Playing in one process");
  expect(lab.traces()).toEqual([]);
});
