import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { keys, listAll, type Registration, type Store } from "@cocoon-net/core";
import { openMemoryStore } from "@cocoon-net/store-memory";
import { afterEach, beforeEach, expect, it } from "vitest";
import {
  type JoinRequest,
  joinCluster,
  recordedRegistration,
  rememberIn,
} from "../src/cluster-membership.ts";
import { readMovedFile, writeMovedFile } from "../src/moved-file.ts";
import { type RegistrationFile, StateDirectory } from "../src/state-directory.ts";

let state: StateDirectory;
let server: string;
let store: Store;
const request: JoinRequest = { node: "n1", platform: "test", parentCIDR: "10.64.0.0/16" };

beforeEach(async () => {
  state = new StateDirectory(await mkdtemp(join(tmpdir(), "lost-store-")));
  server = "";
  const inner = openMemoryStore();
  store = {
    label: inner.label,
    capabilities: inner.capabilities,
    get: (key, options) => inner.get(key, options),
    list: (prefix, options) => inner.list(prefix, options),
    txn: (transaction, options) => inner.txn(transaction, options),
    watch: (prefix, options) => inner.watch(prefix, options),
    session: (ttlMs, options) => inner.session(ttlMs, options),
    incarnation: async (options) => (await inner.incarnation(options)) + server,
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  };
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  await rm(state.path, { recursive: true, force: true });
});

async function lose(...lost: readonly string[]): Promise<void> {
  await store.txn({ then: lost.map((key) => ({ delete: key })) });
  server = " promoted";
}

async function onDisk(): Promise<RegistrationFile & { readonly subnet: string; readonly epoch: number }> {
  const file = await state.readRegistration();
  if (file?.subnet === undefined || file.epoch === undefined) throw new Error("the node has no registration");
  return { ...file, subnet: file.subnet, epoch: file.epoch };
}

/** As its daemon notes an address of another node that it serves. */
async function serveMoved({ subnet, uid, node }: Registration): Promise<void> {
  const record = { home: "n2", subnet: "10.64.9.0/24", node, uid, mac: "02:00:00:00:00:02", seq: 1 };
  await writeMovedFile(state, { subnet, uid, addresses: { "10.64.9.2": { record } } });
}

it("a node whose claim the store has lost makes it again, and writes the new epoch down", async () => {
  const joined = await joinCluster(store, state, request);
  const before = await onDisk();
  expect(before).toMatchObject({ epoch: joined.epoch, incarnation: joined.incarnation });
  await lose(keys.subnet("n1"), keys.node("n1"), keys.slot(joined.subnet));
  const about = { platform: "test", subnetID: "subnet-1", eniIDs: ["eni-1"] };
  const registration = await recordedRegistration(store, before, { about, onChanged: rememberIn(state) });
  await registration.verify();
  const after = await onDisk();
  expect(after.epoch).toBeGreaterThan(before.epoch);
  expect(after.incarnation).not.toBe(before.incarnation);
  const { entry } = await store.get(keys.node("n1"));
  expect(JSON.parse(entry?.value ?? "")).toMatchObject({ uid: before.uid, ...about });
  await (await recordedRegistration(store, after)).verify();
});

it("init on such a node gets its own subnet back", async () => {
  const first = await joinCluster(store, state, { ...request, subnet: "10.64.7.0/24" });
  await serveMoved(first);
  await lose(keys.subnet("n1"), keys.node("n1"), keys.slot(first.subnet));
  const again = await joinCluster(store, state, request);
  expect(again.subnet).toBe("10.64.7.0/24");
  expect(await onDisk()).toMatchObject({ epoch: again.epoch, subnet: again.subnet });
  expect(await readMovedFile(state, first.subnet)).toBeDefined();
});

// Guard: joinCluster: what was moved to the node is forgotten with an ownership that has ended (G3).
it("a node that is registered anew, with the same block, serves nothing that was moved to it before", async () => {
  const first = await joinCluster(store, state, request);
  await serveMoved(first);
  await joinCluster(store, state, request);
  expect(await readMovedFile(state, first.subnet)).toBeDefined();
  await first.leave();
  const again = await joinCluster(store, state, request);
  expect(again.subnet).toBe(first.subnet);
  expect(await readMovedFile(state, first.subnet)).toBeUndefined();
});

it("a node makes no new cluster of a store that has lost its own", async () => {
  await joinCluster(store, state, request);
  const before = await onDisk();
  await lose(...(await listAll(store, "")).entries.map(({ key }) => key));
  for (const attempt of [
    () => joinCluster(store, state, request),
    () => joinCluster(store, state, { ...request, parentCIDR: undefined }),
    () => recordedRegistration(store, before),
  ]) {
    await expect(attempt()).rejects.toThrow(
      `is empty, but this node belongs to cluster ${before.clusterUID}`,
    );
  }
  expect((await listAll(store, "")).entries).toEqual([]);
  expect(await onDisk()).toEqual(before);
});
