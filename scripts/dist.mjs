// Makes what is installed without npm: for each architecture a tarball that brings its own Node, and a Debian package
// made from it.
//
//   npm run dist -- [--arch x64,arm64] [--out dist] [--fast] [--no-deb]
//
// --fast compresses less. Another architecture's Node and native parts come from the npm registry.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const agent = join(root, "apps", "agent");
const architectures = { x64: "amd64", arm64: "arm64" };
const options = readOptions(process.argv.slice(2));
const version = manifest(agent).version;
// The same tree gives the same files, byte for byte.
const made = new Date(Number(process.env.SOURCE_DATE_EPOCH ?? commitTime()) * 1_000);

function main() {
  const packages = productionPackages();
  mkdirSync(options.out, { recursive: true });
  for (const arch of options.arch) {
    const work = mkdtempSync(join(tmpdir(), "cocoon-net-dist-"));
    try {
      const name = `cocoon-net_${version}_linux_${arch}`;
      const tree = join(work, name);
      stage(tree, arch, packages);
      const tarball = join(options.out, `${name}.tar.gz`);
      pack(work, name, tarball);
      say(`${relative(process.cwd(), tarball)}  ${megabytes(tarball)} MB`);
      if (options.deb) say(`${relative(process.cwd(), debianPackage(tree, work, arch))}`);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
}

/** Folder of each package that the command needs, by its place below the root. */
function productionPackages() {
  const found = new Map();
  const visit = (folder) => {
    const place = relative(root, folder);
    if (found.has(place)) return;
    found.set(place, folder);
    const {
      dependencies = {},
      optionalDependencies = {},
      peerDependencies = {},
      peerDependenciesMeta = {},
    } = manifest(folder);
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) {
      const dependency = resolvePackage(name, folder);
      if (dependency !== undefined) visit(dependency);
      else if (!(name in optionalDependencies) && !peerDependenciesMeta[name]?.optional) {
        fail(`${name}, which ${place} needs, is not installed; run npm install`);
      }
    }
  };
  visit(agent);
  return found;
}

/** As Node looks it up; a workspace is found by where its link leads. */
function resolvePackage(name, from) {
  for (let at = from; ; at = dirname(at)) {
    const folder = join(at, "node_modules", name);
    if (existsSync(join(folder, "package.json"))) return workspaceOf(name) ?? folder;
    if (at === root) return undefined;
  }
}

function workspaceOf(name) {
  const link = join(root, "node_modules", name);
  if (!existsSync(link) || !lstatSync(link).isSymbolicLink()) return undefined;
  const folder = name.slice(name.indexOf("/") + 1);
  return [join(root, "packages", folder), join(root, "apps", folder)].find((path) => existsSync(path));
}

function stage(tree, arch, packages) {
  const app = join(tree, "lib", "app");
  for (const [place, folder] of packages) {
    const target = join(app, place);
    if (place.startsWith("node_modules") || place.includes("/node_modules/")) copyDependency(folder, target);
    else copyWorkspace(folder, target);
  }
  // Workspaces are found by name, as npm's links have it.
  for (const place of packages.keys()) {
    if (place.includes("node_modules")) continue;
    const link = join(app, "node_modules", manifest(join(root, place)).name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(relative(dirname(link), join(app, place)), link);
  }
  nativeParts(tree, app, arch);
  mkdirSync(join(tree, "bin"), { recursive: true });
  writeFileSync(join(tree, "bin", "cocoon-net"), launcher, { mode: 0o755 });
  for (const file of ["LICENSE", "README.md"]) cpSync(join(root, file), join(tree, file));
  cpSync(join(root, "deploy", "systemd"), join(tree, "systemd"), { recursive: true });
  writeFileSync(join(tree, "LICENSES.txt"), licences(packages));
}

const launcher = `#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/../lib/node" "$here/../lib/app/apps/agent/bin/cocoon-net.js" "$@"
`;

/** Node itself, and koffi's library. */
function nativeParts(tree, app, arch) {
  const ours = process.arch === arch;
  const node = manifest(join(root, "node_modules", "node")).version;
  const runtime = ours ? join(root, "node_modules", "node") : fetchPackage(`node-linux-${arch}@${node}`);
  cpSync(join(runtime, "bin", "node"), join(tree, "lib", "node"));
  chmodSync(join(tree, "lib", "node"), 0o755);
  if (ours) return;
  const scope = join(app, "node_modules", "@koromix");
  const koffi = manifest(join(root, "node_modules", "koffi")).version;
  rmSync(scope, { recursive: true, force: true });
  cpSync(fetchPackage(`@koromix/koffi-linux-${arch}@${koffi}`), join(scope, `koffi-linux-${arch}`), {
    recursive: true,
  });
}

const fetched = [];
process.on("exit", () => {
  for (const folder of fetched) rmSync(folder, { recursive: true, force: true });
});

function fetchPackage(name) {
  say(`fetching ${name}`);
  const folder = mkdtempSync(join(tmpdir(), "cocoon-net-fetch-"));
  fetched.push(folder);
  run("npm", ["pack", name, "--silent", "--pack-destination", folder], folder);
  const [file] = readdirSync(folder);
  if (file === undefined) fail(`${name} cannot be had from the npm registry`);
  run("tar", ["-xzf", file], folder);
  return join(folder, "package");
}

function copyWorkspace(folder, target) {
  for (const name of ["package.json", "dist", "bin", "config.schema.json", "LICENSE"]) {
    const from = join(folder, name);
    if (!existsSync(from)) continue;
    cpSync(from, join(target, name), { recursive: true, filter: isNeeded });
  }
}

function copyDependency(folder, target) {
  cpSync(folder, target, {
    recursive: true,
    filter: (path) =>
      path === folder || (isNeeded(path) && !relative(folder, path).startsWith("node_modules")),
  });
}

/** Not what only people, compilers and debuggers read. */
function isNeeded(path) {
  return !/\.(d\.[cm]?ts|map|tsbuildinfo|md|markdown)$/.test(path) || /licen[cs]e/i.test(path);
}

function licences(packages) {
  const lines = ["The licences of what this distribution is made of.", ""];
  for (const [place, folder] of [...packages].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const { name, version: its, license } = manifest(folder);
    lines.push(`${name} ${its}: ${typeof license === "string" ? license : "see its package"}  (${place})`);
  }
  lines.push(`node ${manifest(join(root, "node_modules", "node")).version}: MIT`);
  return `${lines.join("\n")}\n`;
}

function pack(folder, name, file) {
  const archive = [
    ...["--sort=name", "--owner=0", "--group=0", "--numeric-owner"],
    `--mtime=@${made.getTime() / 1_000}`,
  ];
  const gzip = options.fast ? "gzip -1 -n" : "gzip -9 -n";
  run("tar", [...archive, `--use-compress-program=${gzip}`, "-cf", file, name], folder);
}

/** Takes the tree away. */
function debianPackage(tree, work, arch) {
  const debian = join(work, "deb");
  const place = (path) => {
    mkdirSync(join(debian, dirname(path)), { recursive: true });
    return join(debian, path);
  };
  renameSync(tree, place("usr/lib/cocoon-net"));
  rmSync(join(debian, "usr/lib/cocoon-net/systemd"), { recursive: true });
  symlinkSync("../lib/cocoon-net/bin/cocoon-net", place("usr/bin/cocoon-net"));
  cpSync(join(root, "deploy/systemd/cocoon-net.service"), place("usr/lib/systemd/system/cocoon-net.service"));
  cpSync(join(root, "deploy/deb/config.yaml"), place("etc/cocoon-net/config.yaml"));
  for (const script of ["postinst", "prerm", "postrm"]) {
    cpSync(join(root, "deploy/deb", script), place(`DEBIAN/${script}`));
    chmodSync(join(debian, "DEBIAN", script), 0o755);
  }
  writeFileSync(place("DEBIAN/conffiles"), "/etc/cocoon-net/config.yaml\n");
  writeFileSync(
    place("DEBIAN/control"),
    `Package: cocoon-net
Version: ${version}
Architecture: ${architectures[arch]}
Maintainer: The cocoon-net developers
Section: net
Priority: optional
Depends: libc6 (>= 2.28), libstdc++6, libgcc-s1
Recommends: iptables
Description: VPC-routable addresses for the VMs of a node
 Serves DHCP to the VMs of a node from addresses that the cloud's VPC routes
 directly, and manages those addresses over a whole cluster.
`,
  );
  const file = join(options.out, `cocoon-net_${version}_${architectures[arch]}.deb`);
  const level = options.fast ? ["-Znone"] : ["-Zxz"];
  const env = { ...process.env, SOURCE_DATE_EPOCH: String(made.getTime() / 1_000) };
  run("dpkg-deb", ["--root-owner-group", ...level, "--build", debian, file], work, env);
  return file;
}

function readOptions(args) {
  const found = { arch: [process.arch], out: join(root, "dist"), fast: false, deb: true };
  for (let at = 0; at < args.length; at++) {
    const arg = args[at];
    if (arg === "--fast") found.fast = true;
    else if (arg === "--no-deb") found.deb = false;
    else if (arg === "--out" && args[at + 1]) found.out = args[++at];
    else if (arg === "--arch" && args[at + 1]) found.arch = args[++at].split(",");
    else fail(`unknown or incomplete option ${arg}; it takes --arch, --out, --fast and --no-deb`);
  }
  const other = found.arch.find((arch) => !(arch in architectures));
  if (other !== undefined)
    fail(`unknown architecture ${other}; there are ${Object.keys(architectures).join(", ")}`);
  return found;
}

function manifest(folder) {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
}

function commitTime() {
  const { status, stdout } = spawnSync("git", ["log", "-1", "--format=%ct"], { cwd: root, encoding: "utf8" });
  return status === 0 ? stdout.trim() : 0;
}

function run(program, args, cwd, env = process.env) {
  const { status, error } = spawnSync(program, args, { cwd, env, stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0)
    fail(`${program} ${args[0]} failed${error ? `: ${error.message}` : "; its output above says why"}`);
}

function megabytes(path) {
  return Math.round(lstatSync(path).size / 1e6);
}

function say(line) {
  console.log(`dist: ${line}`);
}

function fail(line) {
  console.error(`dist: ${line}`);
  process.exit(1);
}

main();
