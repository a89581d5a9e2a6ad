// Everything about the checkout that is not a test: format, lint, types, build, what the packages export, which
// package may import which, and the lock file. Prints one line a step; the first that fails ends it.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

process.env.TURBO_TELEMETRY_DISABLED = "1";
process.env.DO_NOT_TRACK = "1";

const published = ["packages", "apps"]
  .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
  .filter((folder) => JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).private !== true);

step("format and lint", "biome", ["ci", "--colors=off", "--error-on-warnings", "."]);
step("build", "tsc", ["-b", "tsconfig.json"]);
step("types of the tests", "tsc", ["-p", "tsconfig.test.json"]);
step("package boundaries", "turbo", ["boundaries"]);
const packed = mkdtempSync(join(tmpdir(), "cocoon-net-packed-"));
process.on("exit", () => rmSync(packed, { recursive: true, force: true }));
const folders = published.map((folder) => `./${folder}`);
step("what is published", "npm", ["pack", "--silent", "--pack-destination", packed, ...folders]);
for (const file of readdirSync(packed)) {
  step(`exports of ${file} (publint)`, "publint", ["--strict", join(packed, file)]);
  step(`exports of ${file} (attw)`, "attw", [join(packed, file), "--profile", "esm-only", "--quiet"]);
}
check("lock file", () => {
  const lock = JSON.parse(readFileSync("package-lock.json", "utf8"));
  const remote = Object.values(lock.packages).filter((entry) => /^https?:/.test(entry.resolved ?? ""));
  return remote.length === 0 ? undefined : `${remote.length} entries hold a registry address`;
});
check("changesets", () => {
  const names = published.map(
    (folder) => JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).name,
  );
  for (const file of readdirSync(".changeset").filter(
    (name) => name.endsWith(".md") && name !== "README.md",
  )) {
    for (const [, name] of readFileSync(join(".changeset", file), "utf8").matchAll(/^"([^"]+)": /gm)) {
      if (!names.includes(name)) return `${file} names ${name}, which is not a published package`;
    }
  }
  return undefined;
});

function step(title, program, args) {
  check(title, () => {
    const result = spawnSync(program, args, { encoding: "utf8", timeout: 900_000, maxBuffer: 1 << 26 });
    if (result.status === 0) return undefined;
    return `${program} ${args.join(" ")}\n${result.stdout ?? ""}${result.stderr ?? ""}${result.error ?? ""}`;
  });
}

function check(title, run) {
  const start = performance.now();
  const problem = run();
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  if (problem === undefined) {
    console.log(`ok    ${title} (${seconds} s)`);
    return;
  }
  console.error(`FAIL  ${title}\n${problem}`);
  process.exit(1);
}
