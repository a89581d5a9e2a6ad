import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

it("the daemon's code loads neither the client of fetch, nor zod, nor a store's client", () => {
  const program = `
    import { registerHooks } from "node:module";
    const loaded = [];
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
    await import(${JSON.stringify(new URL("../src/commands/daemon.ts", import.meta.url).href)});
    const heavy = /internal.deps.undici|node_modules.(zod|yaml|etcd3|ioredis|@grpc|@google-cloud)/;
    console.log(JSON.stringify([...process.moduleLoadList, ...loaded].filter((name) => heavy.test(name))));
  `;
  const flags = [
    "--conditions=@cocoon-net/source",
    "--no-warnings",
    "--input-type=module",
    "--eval",
    program,
  ];
  const cwd = fileURLToPath(new URL("..", import.meta.url));
  const printed = execFileSync(process.execPath, flags, { cwd, encoding: "utf8", timeout: 60_000 });
  expect(JSON.parse(printed)).toEqual([]);
}, 180_000);
