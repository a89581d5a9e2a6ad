import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { NotFoundError } from "@cocoon-net/core";
import { expect, it, onTestFinished } from "vitest";
import { watchAliases } from "../src/alias-watch.ts";
import { GkeWorld, impatient, numberOf } from "./gke-world.ts";

it("tells the aliases as the metadata server shows them, then each change, until it is ended", async () => {
  await using world = await GkeWorld.open({ delays: { metadataLagMs: 20 } });
  const instanceID = world.addInstance();
  const env = await world.environment(instanceID);
  const abort = new AbortController();
  const watch = watchAliases({ env, signal: abort.signal }, impatient);
  expect((await watch.next()).value).toEqual([]);
  const change = watch.next();
  world.simulator.addAlias(numberOf(instanceID), { cidr: "172.20.0.0/24", rangeName: "cocoon-pods" });
  expect((await change).value).toEqual(["172.20.0.0/24"]);
  const end = watch.next();
  const ended = expect(end).rejects.toThrow("enough");
  abort.abort(new Error("enough"));
  await ended;
});

/** Answers with what `next` says, in turn. */
async function serverOf(next: () => { status: number; body: string; etag?: string }): Promise<string> {
  const server: Server = createServer((_request, response) => {
    const { status, body, etag } = next();
    response
      .writeHead(status, { "metadata-flavor": "Google", ...(etag === undefined ? {} : { etag }) })
      .end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
}

it("goes on after an outage, does not repeat itself, and ends where there is no interface", async () => {
  const answers = [
    { status: 503, body: "restarting" },
    { status: 200, body: '{"ipAliases": ["10.0.0.0/24"]}', etag: "a" },
    { status: 503, body: "restarting" },
    { status: 200, body: '{"ipAliases": ["10.0.0.0/24"]}', etag: "b" },
    { status: 200, body: "{}" },
    { status: 200, body: "{}" },
    { status: 200, body: '{"ipAliases": ["10.0.1.0/24"]}' },
    { status: 404, body: "" },
  ];
  const endpoint = await serverOf(() => answers.shift() ?? { status: 404, body: "" });
  const env = { COCOON_NET_METADATA_ENDPOINT: endpoint };
  const seen: (readonly string[])[] = [];
  const all = (async () => {
    for await (const aliases of watchAliases({ env }, impatient)) seen.push(aliases);
  })();
  await expect(all).rejects.toThrow(NotFoundError);
  expect(seen).toEqual([["10.0.0.0/24"], [], ["10.0.1.0/24"]]);
  expect(answers).toEqual([]);
});
