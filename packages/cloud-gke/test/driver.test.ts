import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import driver, { gkeDriver } from "@cocoon-net/cloud-gke";
import { InvalidError } from "@cocoon-net/core";
import { expect, it } from "vitest";

/** One server in the script's own process: it issues tokens, and refuses every API request. */
const prelude = `
  import { createServer } from "node:http";
  import { once } from "node:events";
  import driver from "@cocoon-net/cloud-gke";
  const server = createServer((request, response) => {
    const refused = request.url.startsWith("/compute/v1/");
    response.writeHead(refused ? 403 : 200, { "metadata-flavor": "Google" });
    response.end(refused ? '{"error": {"message": "no"}}' : '{"access_token": "t", "expires_in": 60}');
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const origin = "http://127.0.0.1:" + server.address().port;
  const env = { HOME: "/nonexistent", COCOON_NET_GCE_ENDPOINT: origin, COCOON_NET_METADATA_ENDPOINT: origin };
  const cloud = driver.open("gke", { env });
  const call = () => cloud.describeInstance("p/us-a1-a/n/1");
`;

/** Runs a script in a process of its own and gives what it prints, as JSON. */
async function run(script: string): Promise<unknown> {
  const here = fileURLToPath(new URL("..", import.meta.url));
  const args = ["--conditions=@cocoon-net/source", "--input-type=module", "-e", prelude + script];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: here });
  return JSON.parse(stdout);
}

it("is the default export, and knows its platform", async () => {
  expect(driver).toBe(gkeDriver);
  expect(driver.platforms).toEqual(["gke"]);
  await using cloud = driver.open("gke", { env: {} });
  expect(cloud.platform).toBe("gke");
  expect(() => driver.open("volcengine")).toThrow(InvalidError);
  expect(() => driver.open("gke", { env: { COCOON_NET_GCE_ENDPOINT: "nonsense" } })).toThrow(InvalidError);
});

it("loads nothing of the vendor's until the API is called, and then only the clients that it needs", async () => {
  const loaded = await run(`
    import Module from "node:module";
    const loaded = () => Object.keys(Module._cache).filter((file) => /google|protobuf|grpc/.test(file));
    await cloud.describeSelf().catch(() => {});
    const before = loaded();
    await call().catch(() => {});
    const files = loaded().filter((file) => file.includes("google-cloud/compute/build"));
    console.log(JSON.stringify([before, files.map((file) => file.split("/").at(-1)).sort()]));
    process.exit();
  `);
  const clients = ["instances", "region_operations", "subnetworks", "zone_operations"].flatMap((name) => [
    `${name}_client.js`,
    `${name}_client_config.json`,
  ]);
  expect(loaded).toEqual([[], [...clients, "protos.json"].sort()]);
});

it("where there are no default credentials, a call fails, and the process lives", async () => {
  const seen = await run(`
    const unhandled = [];
    process.on("unhandledRejection", (reason) => unhandled.push(String(reason)));
    const error = await call().catch((error) => error.message);
    await new Promise((resolve) => setImmediate(resolve));
    console.log(JSON.stringify({ error, unhandled }));
    process.exit();
  `);
  expect(seen).toEqual({ error: "instances.get n was refused: HTTP 403: no", unhandled: [] });
});
