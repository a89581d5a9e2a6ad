import { once } from "node:events";
import { createServer } from "node:http";
import { VolcengineSimulator } from "@cocoon-net/cloud-testkit";
import { NotFoundError, UnavailableError } from "@cocoon-net/core";
import { expect, it, onTestFinished } from "vitest";
import { Metadata } from "../src/metadata.ts";
import type { Timing } from "../src/timing.ts";
import { impatient } from "./volcengine-world.ts";

const timing = { ...impatient, metadataMs: 10_000 };
/** For those who wait in vain. */
const brief = { ...timing, metadataMs: 50 };

async function metadataOf(
  answer: (path: string) => string | undefined | Promise<never>,
  patience: Timing = timing,
): Promise<Metadata> {
  const server = createServer(async (request, response) => {
    const body = await answer(request.url ?? "");
    response.writeHead(body === undefined ? 404 : 200).end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  return new Metadata(`http://127.0.0.1:${port}`, patience);
}

it.each([false, true])("knows the instance, token required: %s", async (tokenRequired) => {
  await using simulator = new VolcengineSimulator();
  const { instanceID } = simulator.addInstance();
  const at = { host: "127.0.0.1", port: 0, instanceID, tokenRequired };
  const { metadata } = await simulator.listen({ metadata: at });
  const client = new Metadata(metadata ?? "", timing);
  expect(await client.answers()).toBe(true);
  expect(await client.identity()).toEqual({
    instanceID,
    zone: "cn-beijing-a",
    region: "cn-beijing",
    network: simulator.vpcID,
  });
});

it("knows it from the EC2-like names too, and the region from the zone", async () => {
  const items: Record<string, string> = {
    "/latest/meta-data/instance-id": "i-1",
    "/latest/meta-data/placement/availability-zone": "cn-shanghai-b",
    "/latest/meta-data/vpc-id": "vpc-1",
  };
  const client = await metadataOf((path) => items[path]);
  expect(await client.identity()).toEqual({
    instanceID: "i-1",
    zone: "cn-shanghai-b",
    region: "cn-shanghai",
    network: "vpc-1",
  });
});

it("another web server is not taken for it", async () => {
  const client = await metadataOf(() => undefined);
  expect(await client.answers()).toBe(false);
  await expect(client.identity()).rejects.toThrow(NotFoundError);
});

it("silence is not waited for longer than a second or so", async () => {
  const client = await metadataOf(() => new Promise<never>(() => {}), brief);
  expect(await client.answers()).toBe(false);
  await expect(client.identity()).rejects.toThrow(UnavailableError);
});
