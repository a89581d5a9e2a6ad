import { once } from "node:events";
import { createServer } from "node:http";
import { GceSimulator } from "@cocoon-net/cloud-testkit";
import { NotFoundError, UnavailableError } from "@cocoon-net/core";
import { expect, it, onTestFinished } from "vitest";
import { Metadata } from "../src/metadata.ts";
import { idOf, impatient } from "./gke-world.ts";

const timing = { ...impatient, metadataMs: 200 };

async function metadataOf(
  answer: (path: string) => string | undefined | Promise<never>,
  headers: Record<string, string> = { "metadata-flavor": "Google" },
): Promise<Metadata> {
  const server = createServer(async (request, response) => {
    const body = await answer(request.url ?? "");
    response.writeHead(body === undefined ? 404 : 200, headers).end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  return new Metadata(`http://127.0.0.1:${port}`, timing);
}

it("knows the instance and its service account's token", async () => {
  await using simulator = new GceSimulator({ project: "p1", region: "europe-west4", zone: "europe-west4-b" });
  const instance = simulator.addInstance({ name: "node-1" });
  const at = { host: "127.0.0.1", port: 0, instance: "node-1" };
  const { metadata } = await simulator.listen({ metadata: at });
  const client = new Metadata(metadata ?? "", impatient);
  expect(await client.answers()).toBe(true);
  expect(await client.identity()).toEqual({
    instanceID: idOf(instance),
    zone: "europe-west4-b",
    region: "europe-west4",
    network: "p1",
  });
  expect(await client.accessToken()).toEqual({
    token: expect.stringMatching(/^ya29\./),
    expiresInMs: 3_599_000,
  });
});

it("another web server is not taken for it, whatever it answers", async () => {
  const client = await metadataOf(() => "yes", {});
  expect(await client.answers()).toBe(false);
  await expect(client.identity()).rejects.toThrow(/is not Google's/);
});

it("what is missing is named", async () => {
  const client = await metadataOf(() => undefined);
  expect(await client.answers()).toBe(false);
  await expect(client.identity()).rejects.toThrow(NotFoundError);
  await expect(client.accessToken()).rejects.toMatchObject({
    hint: expect.stringContaining("service account"),
  });
});

it("silence is not waited for longer than a second or so", async () => {
  const client = await metadataOf(() => new Promise<never>(() => {}));
  expect(await client.answers()).toBe(false);
  await expect(client.identity()).rejects.toThrow(UnavailableError);
});
