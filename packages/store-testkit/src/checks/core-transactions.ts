import assert from "node:assert/strict";
import {
  campaign,
  initCluster,
  keys,
  type LeaseRecord,
  type MirrorChange,
  prefixes,
  type Registration,
  Registry,
  type Store,
  stepsOf,
  type TxnRequest,
  UnavailableError,
} from "@cocoon-net/core";
import type { Bench, Check, CheckGroup, FaultyStore } from "../check.ts";
import { until } from "../waiting.ts";

/** Time in which a client finds its connection gone, and comes back. */
const comeback = 20_000;

export const coreTransactions: CheckGroup = {
  name: "core's transactions, their answers lost",
  checks: [
    lossOf("a registration", async ({ direct, faulty, lossy }) => {
      const store = lossy(keys.subnet("a"));
      const { epoch, subnet } = await new Registry(store).register(requestOf("a"));
      const other = await new Registry(faulty.store).register(requestOf("b"));
      assert.notEqual(other.subnet, subnet);
      const { entry } = await direct.get(keys.subnet("a"));
      assert.equal(entry?.createRevision, epoch, "the node has the epoch of the one claim that was applied");
      assert.equal(entry.modRevision, epoch);
      assert.equal((await direct.list(prefixes.slots)).entries.length, 2);
    }),
    lossOf("an announcement", async ({ direct, faulty, lossy }) => {
      const { epoch } = await new Registry(direct).register(requestOf("a"));
      await using session = await faulty.store.session(60_000);
      const registration = await new Registry(lossy(keys.alive("a"))).register(requestOf("a"));
      const revision = await repeated(() => registration.announce(session));
      assert.ok(revision > epoch, `announced at ${revision}, registered at ${epoch}`);
      assert.ok((await direct.get(keys.alive("a"))).entry, "it is announced");
      await session[Symbol.asyncDispose]();
      assert.equal((await direct.get(keys.alive("a"))).entry, undefined, "it hangs on the session");
    }),
    lossOf("a mirrored batch of leases", async ({ direct, lossy }) => {
      await new Registry(direct).register(requestOf("a"));
      const registration = await registrationOver(lossy(keys.pool("10.64.0.9")));
      const leases = Array.from({ length: 200 }, (_, at): [string, LeaseRecord] => [
        `10.64.0.${at + 1}`,
        leaseOf(at),
      ]);
      await repeated(() => registration.mirror(leases));
      assert.deepEqual(Object.fromEntries(await registration.mirrored()), Object.fromEntries(leases));
      const ending = await registrationOver(lossy(keys.pool("10.64.0.9")));
      await repeated(() => ending.mirror(leases.map(([address]): MirrorChange => [address, undefined])));
      assert.equal((await registration.mirrored()).size, 0);
    }),
    lossOf("an update of the node's record", async ({ direct, lossy }) => {
      await new Registry(direct).register(requestOf("a"));
      const registration = await registrationOver(lossy(keys.node("a")));
      const pool = { size: 140, leased: 3, free: 137 };
      await repeated(() => registration.update({ pool }));
      const record: unknown = JSON.parse((await direct.get(keys.node("a"))).entry?.value ?? "");
      assert.partialDeepStrictEqual(record, { uid: "uid-a", status: "ready", pool });
    }),
    lossOf("a node's leaving", async ({ direct, lossy }) => {
      await new Registry(direct).register(requestOf("a"));
      const registration = await registrationOver(lossy(keys.subnet("a")));
      await registration.mirror([["10.64.0.9", leaseOf(1)]]);
      await repeated(() => registration.leave());
      for (const prefix of [prefixes.subnets, prefixes.slots, prefixes.pool]) {
        assert.deepEqual((await direct.list(prefix)).entries, [], prefix);
      }
    }),
    lossOf("a campaign", async ({ direct, lossy }) => {
      await using leadership = await campaign(lossy(keys.leader), { id: "a", ttlMs: 60_000 });
      const fenced = await direct.txn({ if: [leadership.fence], then: [{ put: "led", value: "" }] });
      assert.ok(fenced.succeeded, "the leader's fence is that of the key which is there");
      assert.equal(leadership.signal.aborted, false);
    }),
  ],
};

interface Loss {
  /** A handle without faults, on a cluster that has been initialized. */
  readonly direct: Store;
  readonly faulty: FaultyStore;
  /** The faulty handle; the answer to the first transaction over it that writes `key` is lost on the way. */
  lossy(key: string): Store;
}

function lossOf(what: string, run: (loss: Loss) => Promise<void>): Check {
  return {
    name: `${what} whose answer is lost can be run again`,
    needs: ["faults"],
    async run(bench: Bench) {
      const direct = await bench.open();
      await initCluster(direct, { parentCIDR: "10.64.0.0/16", platform: "test" });
      const faulty = await bench.openFaulty();
      const lossy = (key: string) => losing(faulty, direct, key);
      await run({ direct, faulty, lossy });
    },
  };
}

/** Only what core's transactions need of a store is passed on. */
function losing({ store, faults }: FaultyStore, direct: Store, key: string): Store {
  let lost = false;
  const stateOf = async () => (await direct.get(key)).entry?.modRevision;
  return {
    label: store.label,
    capabilities: store.capabilities,
    get: (name, options) => store.get(name, options),
    list: (prefix, options) => store.list(prefix, options),
    watch: (prefix, options) => store.watch(prefix, options),
    session: (ttlMs, options) => store.session(ttlMs, options),
    incarnation: (options) => store.incarnation(options),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    async txn(request, options) {
      if (lost || !writes(request, key)) return store.txn(request, options);
      lost = true;
      const before = await stateOf();
      await faults.swallow();
      try {
        return await store.txn(request, options);
      } finally {
        await faults.pass();
        // The request gets through, only its answer does not; a busy server may still be at it.
        await until(`the write of ${key}`, comeback, async () => (await stateOf()) !== before);
      }
    },
  };
}

function writes(request: TxnRequest, key: string): boolean {
  const operations = stepsOf(request).flatMap(({ then = [] }) => then);
  return operations.some((operation) =>
    "put" in operation ? operation.put === key : "delete" in operation && operation.delete === key,
  );
}

/** Runs it until it is answered. */
async function repeated<T>(run: () => Promise<T>): Promise<T> {
  const { answer } = await until("an answer", comeback, async () => {
    try {
      return { answer: await run() };
    } catch (error) {
      if (error instanceof UnavailableError) return undefined;
      throw new assert.AssertionError({ message: `run again it fails: ${error}` });
    }
  });
  return answer;
}

/** The registration that the node has, over another handle. */
async function registrationOver(store: Store): Promise<Registration> {
  return new Registry(store).register(requestOf("a"));
}

function requestOf(node: string): { node: string; uid: string; agentVersion: string } {
  return { node, uid: `uid-${node}`, agentVersion: "0.0.0" };
}

function leaseOf(seq: number): LeaseRecord {
  return { node: "a", mac: "02:00:00:00:00:01", expiry: "2030-01-01T00:00:00.000Z", seq };
}
