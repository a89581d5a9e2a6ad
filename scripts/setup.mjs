// Brings a checkout to where `npm start` and `npm test` can run: npm dependencies from the lock file, system
// packages, a build. Does nothing, quickly, when everything is there. Runs on any Node ≥ 18, before anything
// is installed, so it uses nothing but Node itself.
//
//   node scripts/setup.mjs [--system=required|optional|none]
//
// required (default): missing system packages are installed when root, else named in one line, exit 1
// optional: the same, but missing packages are no error    none: not looked at
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const systemMode = /--system=(\w+)/.exec(process.argv.join(" "))?.[1] ?? "required";

/** Program → Debian package that has it. */
const programs = {
  etcd: "etcd-server",
  etcdctl: "etcd-client",
  "redis-server": "redis-server",
  "redis-cli": "redis-tools",
  ip: "iproute2",
  iptables: "iptables",
  udhcpc: "udhcpc",
  dhclient: "isc-dhcp-client",
  dhcpcd: "dhcpcd-base",
  dnsmasq: "dnsmasq-base",
  "kea-dhcp4": "kea-dhcp4-server",
  networkctl: "systemd",
  ping: "iputils-ping",
};

installNpm();
if (systemMode !== "none") installSystem();
build();

function installNpm() {
  const stamp = join(root, "node_modules", ".setup-stamp");
  const wanted = createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  say("installing npm dependencies from the lock file");
  // npm's own Node: the one in node_modules may be what is about to be replaced.
  const node = process.env.npm_node_execpath ?? process.execPath;
  const npm = process.env.npm_execpath;
  // Not `npm ci`: it refuses a lock file without the optional packages of platforms that a registry does not carry.
  // `--no-save` keeps the lock file as it is; versions and integrity still come from it.
  const args = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
  const [program, ...rest] = npm ? [node, npm, ...args] : ["npm", ...args];
  const result = spawnSync(program, rest, { cwd: root, stdio: "inherit" });
  if (result.status !== 0) fail("npm install failed; its output above says why");
  writeFileSync(stamp, wanted);
}

function installSystem() {
  const missing = Object.entries(programs).filter(([program]) => !onPath(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(([, debian]) => debian))];
  const isRoot = process.getuid?.() === 0;
  if (!isRoot || !onPath("apt-get")) {
    const line = `missing ${missing.map(([program]) => program).join(", ")}: sudo apt-get install ${packages.join(" ")}`;
    if (systemMode === "required") fail(line);
    say(line);
    return;
  }
  say(`installing ${packages.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  // Our tests start their own servers; RUNLEVEL=1 keeps the packages from starting theirs.
  env.RUNLEVEL = "1";
  const install = ["-y", "-q", "--no-install-recommends", "install", ...packages];
  const apt = (args) =>
    spawnSync("apt-get", args, { stdio: ["ignore", "inherit", "inherit"], env }).status === 0;
  if (!apt(["-q", "update"])) say("apt-get update failed; trying with the lists that are there");
  if (!apt(install)) {
    const line = `apt-get could not install ${packages.join(" ")}; its output above says why`;
    if (systemMode === "required") fail(line);
    say(line);
  }
}

function build() {
  const tsc = join(root, "node_modules", ".bin", "tsc");
  const node = join(root, "node_modules", ".bin", "node");
  const result = spawnSync(node, [tsc, "-b", "tsconfig.json"], { cwd: root, stdio: "inherit" });
  if (result.status !== 0) fail("the build failed; the compiler's messages are above");
}

function onPath(program) {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function say(line) {
  console.error(`setup: ${line}`);
}

function fail(line) {
  say(line);
  process.exit(1);
}
