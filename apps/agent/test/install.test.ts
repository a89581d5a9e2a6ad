import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Running } from "./support/command.ts";
import { Namespace } from "./support/namespace.ts";

const run = promisify(execFile);
const project = fileURLToPath(new URL("../../..", import.meta.url));
const packages =
  "core store-memory store-etcd store-redis cloud-volcengine cloud-gke dhcp host-linux controller";
const architecture = process.arch === "x64" ? "amd64" : process.arch;

const directory = await mkdtemp(join(tmpdir(), "cocoon-install-"));
afterAll(() => rm(directory, { recursive: true, force: true }));

/** A root with a shell, the C library, and nothing else: no Node, no npm, no iproute2. */
async function bareRoot(name: string): Promise<string> {
  const root = join(directory, name);
  for (const folder of ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr/bin", "var/lib/dpkg"]) {
    await mkdir(join(root, folder), { recursive: true });
  }
  const programs = ["/bin/sh", "/usr/bin/dirname", "/usr/bin/readlink"];
  const node = join(project, "node_modules/node/bin/node");
  const libraries = new Set<string>();
  for (const program of [...programs, node]) {
    const { stdout } = await run("ldd", [program]);
    for (const [, path] of stdout.matchAll(/(\/\S+) \(0x/g)) if (path) libraries.add(path);
  }
  for (const path of [...programs, ...libraries]) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await cp(path, join(root, path), { dereference: true });
  }
  await writeFile(join(root, "var/lib/dpkg/status"), "");
  return root;
}

/** The command's argv inside a root and a network namespace of its own. */
function inside(namespace: Namespace, root: string, ...command: readonly string[]): string[] {
  const mounts = `mount -t proc proc ${root}/proc && mount --bind /sys ${root}/sys && mount --bind /dev ${root}/dev`;
  const enter = `${mounts} && exec chroot ${root} "$@"`;
  return [...namespace.enter, "unshare", "--mount", "sh", "-c", enter, "sh", ...command];
}

/** Sets a node up there and lets it serve, with nothing but what was installed. */
async function serves(root: string, cocoonNet: string): Promise<void> {
  await using namespace = await Namespace.create();
  const node = async (...args: readonly string[]): Promise<string> => {
    const [program = "", ...rest] = inside(namespace, root, cocoonNet, ...args);
    return (await run(program, rest, { timeout: 30_000 })).stdout;
  };
  const { version } = JSON.parse(await readFile(join(project, "apps/agent/package.json"), "utf8")) as {
    version: string;
  };
  expect(await node("--version")).toBe(`${version}\n`);
  const subnet = ["--subnet", "10.9.0.0/24", "--node-name", "n1", "--platform", "gke"];
  expect(await node("adopt", ...subnet)).toBe(
    "n1 is set up: 253 addresses of 10.9.0.0/24, gateway 10.9.0.1\n",
  );
  await using daemon = new Running(
    "daemon",
    inside(namespace, root, cocoonNet, "daemon", "--skip-iptables", "--metrics-addr", ""),
    { PATH: process.env.PATH },
  );
  await daemon.says('"serving"');
}

describe.concurrent("what is installed without npm", { timeout: 90_000 }, () => {
  beforeAll(async () => {
    await run(process.execPath, [join(project, "scripts/dist.mjs"), "--out", directory, "--fast"], {
      timeout: 120_000,
    });
  }, 150_000);

  it("a tarball needs nothing on the host but a C library", async () => {
    const root = await bareRoot("tarball");
    const [file = ""] = (await readdir(directory)).filter((name) => name.endsWith(".tar.gz"));
    await mkdir(join(root, "opt"));
    await run("tar", ["-xzf", join(directory, file), "-C", join(root, "opt")]);
    const at = `/opt/${file.replace(/\.tar\.gz$/, "")}`;
    expect(await readFile(join(root, at, "LICENSES.txt"), "utf8")).toMatch(/^ioredis \S+: MIT /m);
    await serves(root, `${at}/bin/cocoon-net`);
  });

  it("a Debian package starts nothing, keeps changed settings, and leaves what the node has", async () => {
    const root = await bareRoot("debian");
    const [file = ""] = (await readdir(directory)).filter((name) => name.endsWith(`_${architecture}.deb`));
    // Dependencies are there without their packages.
    const dpkg = (...args: readonly string[]) =>
      run(
        "dpkg",
        [
          `--root=${root}`,
          "--force-depends",
          "--force-unsafe-io",
          "--force-confold",
          "--force-script-chrootless",
          ...args,
        ],
        {
          env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
        },
      );
    await dpkg("--install", join(directory, file));
    await serves(root, "/usr/bin/cocoon-net");
    const config = join(root, "etc/cocoon-net/config.yaml");
    await writeFile(config, "daemon: { metricsAddr: 127.0.0.1:9000 }\n");
    await dpkg("--install", join(directory, file));
    expect(await readFile(config, "utf8")).toContain("127.0.0.1:9000");
    await dpkg("--remove", "cocoon-net");
    expect(await readFile(config, "utf8")).toContain("127.0.0.1:9000");
    expect(await readdir(join(root, "var/lib/cocoon/net"))).toContain("pool.json");
    expect(await readdir(join(root, "usr/bin"))).not.toContain("cocoon-net");
  });

  it("the unit is what systemd understands, and little exposed", async () => {
    const root = join(directory, "unit");
    await mkdir(join(root, "usr/bin"), { recursive: true });
    await mkdir(join(root, "etc/systemd/system"), { recursive: true });
    await writeFile(join(root, "usr/bin/cocoon-net"), "#!/bin/sh\n", { mode: 0o755 });
    await mkdir(join(root, "bin"));
    await writeFile(join(root, "bin/sh"), "", { mode: 0o755 });
    const units = join(root, "etc/systemd/system");
    // What the unit refers to, and systemd has.
    for (const name of ["basic", "multi-user", "network-online", "shutdown", "sysinit"]) {
      await writeFile(join(units, `${name}.target`), "[Unit]\n");
    }
    const unit = join(units, "cocoon-net.service");
    await cp(join(project, "deploy/systemd/cocoon-net.service"), unit);
    const { stdout } = await run("systemd-analyze", ["security", "--offline=true", unit]);
    const exposure = Number(/Overall exposure level for cocoon-net\.service: (\d+\.\d)/.exec(stdout)?.[1]);
    expect(exposure).toBeLessThanOrEqual(3);
    const { stderr } = await run("systemd-analyze", ["verify", `--root=${root}`, "cocoon-net.service"]).catch(
      (error: { stderr: string }) => error,
    );
    expect(stderr.split("\n").filter((line) => line.includes("cocoon-net.service"))).toEqual([]);
  });
});

it.concurrent("npm installs the published packages globally", { timeout: 150_000 }, async () => {
  const folder = join(directory, "npm");
  await mkdir(folder);
  const folders = [...packages.split(" ").map((part) => `./packages/${part}`), "./apps/agent"];
  await run("npm", ["pack", "--silent", "--pack-destination", folder, ...folders], { cwd: project });
  const tarballs = (await readdir(folder)).map((name) => join(folder, name));
  const prefix = join(directory, "prefix");
  const quiet = ["--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"];
  await run("npm", ["install", "--global", "--prefix", prefix, ...quiet, ...tarballs], { timeout: 120_000 });
  const { stdout } = await run(join(prefix, "bin/cocoon-net"), ["config", "explain", "daemon"]);
  expect(stdout).toMatch(/^stateDir +\/var\/lib\/cocoon\/net +default$/m);
});
