#!/usr/bin/env node
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(`cocoon-net: needs Node.js 22.18 or newer, this is ${process.version}; install a newer one`);
  process.exit(1);
}
// What a library does that Node will not have one day is nothing that an operator could mend.
process.noDeprecation = true;
if (process.argv.includes("daemon")) {
  const { startSmall } = await import("../dist/v8-memory.js");
  startSmall();
}
const { main } = await import("../dist/main.js");
await main(process.argv);
