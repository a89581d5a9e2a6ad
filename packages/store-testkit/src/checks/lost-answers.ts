import assert from "node:assert/strict";
import { type Store, type TxnRequest, type TxnResult, UnavailableError } from "@cocoon-net/core";
import type { CheckGroup } from "../check.ts";
import { until } from "../waiting.ts";

export const lostAnswers: CheckGroup = {
  name: "lost answers",
  checks: [
    {
      name: "a write whose answer was lost says so, and its second run finds the first",
      needs: ["faults"],
      async run(bench) {
        const direct = await bench.open();
        const { store, faults } = await bench.openFaulty();
        await store.get("slot");
        const create: TxnRequest = {
          if: [{ key: "slot", exists: false }],
          then: [{ put: "slot", value: "mine" }],
          else: [{ get: "slot" }],
        };
        await faults.swallow();
        const lost = await attempt(store, create);
        // A backend may run it again by itself, and then has an answer; it must not claim that nothing happened.
        if (lost instanceof UnavailableError) assert.equal(lost.outcome, "unknown");
        else assertMine(lost);
        // The request gets through, only its answer does not; a busy server may still be at it.
        const entry = await until("the write", 15_000, async () => (await direct.get("slot")).entry);
        assert.equal(entry.value, "mine");
        await faults.pass();
        const again = await until("an answer", 15_000, () => store.txn(create));
        assertMine(again);
        assert.deepEqual((await direct.get("slot")).entry, entry, "it was applied once");
      },
    },
    {
      name: "a read whose answer was lost leaves nothing in doubt",
      needs: ["faults"],
      async run(bench) {
        const { store, faults } = await bench.openFaulty();
        await store.get("k");
        await faults.swallow();
        try {
          await store.get("k");
        } catch (error) {
          assert.ok(error instanceof UnavailableError, String(error));
        }
        await faults.pass();
        await until("an answer", 15_000, async () => (await store.get("k")).revision >= 0);
      },
    },
    {
      name: "a counter raised over a path that loses answers counts each step once",
      needs: ["faults"],
      async run(bench) {
        const { store, faults } = await bench.openFaulty();
        const steps = 9;
        for (let step = 1; step <= steps; step += 1) {
          // Each step writes its own number, so that a second run reads its own success back.
          const raise: TxnRequest = {
            if: step === 1 ? [{ key: "n", exists: false }] : [{ key: "n", value: `${step - 1}` }],
            then: [
              { put: "n", value: `${step}` },
              { put: `step/${step}`, value: "" },
            ],
            else: [{ get: "n" }],
          };
          if (step % 3 === 0) await faults.swallow();
          await until(`step ${step}`, 15_000, async () => {
            const result = await attempt(store, raise);
            if (result instanceof UnavailableError) return false;
            assert.ok(
              result.succeeded || result.reads[0]?.value === `${step}`,
              `step ${step} is neither done nor doable`,
            );
            return true;
          });
        }
        await faults.pass();
        const direct = await bench.open();
        assert.equal((await direct.get("n")).entry?.value, `${steps}`);
        for (const entry of (await direct.list("step/")).entries) {
          assert.equal(entry.createRevision, entry.modRevision, `${entry.key} was written once`);
        }
      },
    },
  ],
};

async function attempt(store: Store, request: TxnRequest): Promise<TxnResult | UnavailableError> {
  try {
    return await store.txn(request);
  } catch (error) {
    if (error instanceof UnavailableError) return error;
    throw error;
  }
}

function assertMine(result: TxnResult): void {
  assert.ok(result.succeeded || result.reads[0]?.value === "mine", "the slot is ours");
}
