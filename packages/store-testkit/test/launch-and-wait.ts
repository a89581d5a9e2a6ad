import { startRedis } from "@cocoon-net/store-testkit";

// Run by servers.test.ts as a process of its own, to be killed.
const server = await startRedis();
console.log(JSON.stringify({ pid: server.pid, dataDir: server.dataDir }));
await new Promise(() => setInterval(() => {}, 60_000));
