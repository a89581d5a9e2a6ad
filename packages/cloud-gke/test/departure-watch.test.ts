import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import { expect, it, onTestFinished } from "vitest";
import { watchDeparture } from "../src/departure-watch.ts";
import { GkeWorld, impatient, numberOf } from "./gke-world.ts";

it("a preempted instance is told so within its last seconds", async () => {
  await using world = await GkeWorld.open({});
  const instanceID = world.addInstance();
  const env = await world.environment(instanceID);
  const abort = new AbortController();
  const watch = watchDeparture({ env, signal: abort.signal }, impatient);
  expect((await watch.next()).value).toBeUndefined();
  const notice = watch.next();
  world.simulator.preemptInstance(numberOf(instanceID));
  expect((await notice).value).toMatch(/preempts this instance/);
  abort.abort(new Error("enough"));
  await expect(watch.next()).rejects.toThrow("enough");
});

/** A metadata server whose items can be changed; those that are not set do not exist. */
async function items(now: Map<string, string>): Promise<{
  endpoint: string;
  set(path: string, to: string): void;
  known(path: string): string | undefined;
}> {
  const held = new Set<{ path: string; response: ServerResponse }>();
  const answer = (path: string, response: ServerResponse): void => {
    const text = now.get(path);
    const headers = { "metadata-flavor": "Google", etag: text ?? "" };
    response.writeHead(text === undefined ? 404 : 200, headers).end(text ?? "none");
  };
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "", "http://x");
    const path = url.pathname.replace("/computeMetadata/v1/instance/", "");
    if (url.searchParams.get("last_etag") === now.get(path)) held.add({ path, response });
    else answer(path, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  return {
    endpoint: `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`,
    known: (path) => ([...held].some((one) => one.path === path) ? now.get(path) : undefined),
    set(path, to) {
      now.set(path, to);
      for (const one of held) {
        if (one.path !== path) continue;
        held.delete(one);
        answer(path, one.response);
      }
    },
  };
}

it("a migration is no end, a stop for maintenance is one, and it may be called off", async () => {
  const event = "maintenance-event";
  const server = await items(new Map([[event, "NONE"]]));
  const env = { COCOON_NET_METADATA_ENDPOINT: server.endpoint };
  const watch = watchDeparture({ env }, impatient);
  // There is no `preempted` here: that is nothing to stumble over.
  expect((await watch.next()).value).toBeUndefined();
  const next = watch.next();
  server.set(event, "MIGRATE_ON_HOST_MAINTENANCE");
  await expect.poll(() => server.known(event)).toBe("MIGRATE_ON_HOST_MAINTENANCE");
  server.set(event, "TERMINATE_ON_HOST_MAINTENANCE");
  expect((await next).value).toMatch(/maintenance of its host/);
  const calledOff = watch.next();
  server.set(event, "NONE");
  expect((await calledOff).value).toBeUndefined();
  await watch.return();
});
