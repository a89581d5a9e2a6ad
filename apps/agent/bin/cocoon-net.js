#!/usr/bin/env node
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(`cocoon-net: needs Node.js 22.18 or newer, this is ${process.version}; install a newer one`);
  process.exit(1);
}
if (process.argv.includes("daemon")) {
  const { setFlagsFromString } = await import("node:v8");
  const set = (...flags) => {
    for (const flag of flags) setFlagsFromString(flag);
  };
  // A daemon runs for months beside the guests. Left alone, V8 lets hundreds of megabytes of garbage pile up on a host that
  // has memory; the collections that prevent it cost a few microseconds per lease.
  set("--semi-space-growth-factor=1", "--heap-growing-percent=50", "--no-parallel-scavenge");
  // What the start runs often is Node's module loader, and never again; to optimize it brings in 10 MB of compilers.
  // Before Node 24 one of the two is off as it is.
  const compilers = major < 24 ? ["opt"] : ["opt", "maglev"];
  set(...compilers.map((name) => `--no-${name}`));
  setTimeout(() => set(...compilers.map((name) => `--${name}`)), 2_000).unref();
}
const { main } = await import("../dist/main.js");
await main(process.argv);
