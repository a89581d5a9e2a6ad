#!/usr/bin/env node
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(`cocoon-net: needs Node.js 22.18 or newer, this is ${process.version}; install a newer one`);
  process.exit(1);
}
// A daemon runs for months beside the guests. Left alone, V8 lets hundreds of megabytes of garbage pile up on a host that
// has memory; the collections that prevent it cost a few microseconds per lease.
if (process.argv.includes("daemon")) {
  const { setFlagsFromString } = await import("node:v8");
  for (const flag of [
    "--semi-space-growth-factor=1",
    "--heap-growing-percent=50",
    "--no-parallel-scavenge",
  ]) {
    setFlagsFromString(flag);
  }
}
const { main } = await import("../dist/main.js");
await main(process.argv);
