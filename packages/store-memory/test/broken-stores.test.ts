import assert, { AssertionError } from "node:assert/strict";
import type { Store } from "@cocoon-net/core";
import { MemoryDatabase, MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";
import { applies, checkGroups, runCheck, type StoreUnderTest, TimeoutError } from "@cocoon-net/store-testkit";
import { describe, it } from "vitest";
import type { Breaks } from "./broken/broken-store.ts";
import { brokenReadsAndTransactions } from "./broken/reads-and-transactions.ts";
import { brokenSessionsAndOutages } from "./broken/sessions-and-outages.ts";
import { brokenWatches } from "./broken/watches.ts";

// The suite is only worth something if it sees a store that is wrong. Each of these is wrong in one way.
const broken = { ...brokenReadsAndTransactions, ...brokenWatches, ...brokenSessionsAndOutages };

describe.concurrent("the suite", () => {
  it.each(Object.entries(broken))("sees %s", async (_name, { group, breaks }) => {
    const subject = subjectOf(breaks);
    await Promise.any(
      group.checks
        .filter((check) => applies(check, subject))
        .map((check) => assert.rejects(runCheck(check, subject), isVerdict)),
    );
  });

  it("sees nothing wrong with the same store unbroken", async () => {
    const subject = subjectOf(() => ({}));
    const checks = checkGroups.flatMap((group) => group.checks).filter((check) => applies(check, subject));
    await Promise.all(checks.map((check) => runCheck(check, subject)));
  }, 90_000);
});

/** What a check says about a store, as against a mistake in this file. */
function isVerdict(error: unknown): boolean {
  return error instanceof AssertionError || error instanceof TimeoutError;
}

function subjectOf(breaks: Breaks): StoreUnderTest<MemoryLink> {
  const database = new MemoryDatabase();
  const open = (prefix: string, link = new MemoryLink()): Store => {
    const store = openMemoryStore({ database, prefix, link });
    return altered(store, breaks(store, { prefix, whole: openMemoryStore({ database }) }));
  };
  return {
    name: "broken",
    open: async ({ prefix, via }) => open(prefix, via),
    faults: () => new MemoryLink(),
  };
}

/** The store with some of its members replaced. */
function altered(store: Store, members: Partial<Store>): Store {
  return {
    label: store.label,
    capabilities: store.capabilities,
    get: (...request) => store.get(...request),
    list: (...request) => store.list(...request),
    txn: (...request) => store.txn(...request),
    watch: (...request) => store.watch(...request),
    session: (...request) => store.session(...request),
    incarnation: (...request) => store.incarnation(...request),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    ...members,
  };
}
