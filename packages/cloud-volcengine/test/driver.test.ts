import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import driver, { volcengineDriver } from "@cocoon-net/cloud-volcengine";
import { InvalidError } from "@cocoon-net/core";
import { expect, it } from "vitest";

it("is the default export, and knows its platform", async () => {
  expect(driver).toBe(volcengineDriver);
  expect(driver.platforms).toEqual(["volcengine"]);
  await using cloud = driver.open("volcengine", { env: {} });
  expect(cloud.platform).toBe("volcengine");
  expect(() => driver.open("gke")).toThrow(InvalidError);
});

it("loads nothing of the vendor's until the first call, and then only the signer", async () => {
  const script = `
    import { once } from "node:events";
    import { createServer } from "node:http";
    import Module from "node:module";
    import driver from "@cocoon-net/cloud-volcengine";
    const loaded = () => Object.keys(Module._cache).filter((file) => file.includes("@volcengine"));
    // Refuses, so that the call ends by itself once it was made.
    const server = createServer((_, response) => {
      const refusal = { ResponseMetadata: { Error: { Code: "InvalidAccessKey", Message: "no" } } };
      response.writeHead(401, { connection: "close" }).end(JSON.stringify(refusal));
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    const env = {
      HOME: "/nonexistent",
      VOLCENGINE_ACCESS_KEY_ID: "a",
      VOLCENGINE_SECRET_ACCESS_KEY: "s",
      VOLCENGINE_REGION: "r",
      COCOON_NET_VOLCENGINE_ENDPOINT: "http://127.0.0.1:" + server.address().port,
    };
    const cloud = driver.open("volcengine", { env });
    const before = loaded().length;
    await cloud.describeInstance("i-1").catch(() => {});
    server.close();
    console.log(JSON.stringify([before, loaded().map((file) => file.split("@volcengine/openapi/")[1])]));
  `;
  const here = fileURLToPath(new URL("..", import.meta.url));
  const args = ["--conditions=@cocoon-net/source", "--input-type=module", "-e", script];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: here });
  expect(JSON.parse(stdout)).toEqual([0, ["lib/base/sign.js"]]);
});
