import {
  CocoonError,
  formatCidr,
  overlaps,
  parseCidr,
  prefixes,
  type Registration,
  Registry,
  type Store,
} from "@cocoon-net/core";
import fc from "fast-check";
import { expect } from "vitest";
import { contentsOf, endQuarantine, openCluster, ownersIn, requestOf, takeAway } from "./cluster-fixture.ts";
import { OwnershipModel, parent, reserved, type Step, steps } from "./ownership-model.ts";
import type { Rule } from "./rule.ts";

export function ownershipRules(rule: Rule, numRuns: number): void {
  rule(
    "no two owned subnets overlap, whatever is registered, left, reclaimed and freed (G1)",
    async (bench) => {
      let run = 0;
      await fc.assert(
        fc.asyncProperty(steps, async (sequence) => {
          run += 1;
          const init = { parentCIDR: formatCidr(parent), reserved: reserved.map(formatCidr) };
          await using store = await openCluster(bench, init, `${bench.prefix}/${run}`);
          await followModel(store, sequence);
        }),
        { numRuns },
      );
    },
  );
}

async function followModel(store: Store, sequence: readonly Step[]): Promise<void> {
  const model = new OwnershipModel();
  const held = new Map<string, Registration>();
  for (const step of sequence) {
    if (step.do === "free") {
      const ended = model.free(step.index);
      if (ended) await endQuarantine(store, ended);
    } else if (step.do === "register") {
      const uid = `${step.node}-${step.uid}`;
      const request = requestOf(step.node, step.subnet && formatCidr(step.subnet), uid);
      const got = await new Registry(store).register(request).catch(codeOf);
      expect(typeof got === "string" ? got : got.subnet).toBe(model.register(step.node, uid, step.subnet));
      if (typeof got !== "string") held.set(step.node, got);
    } else {
      model[step.do](step.node);
      const owned = held.get(step.node);
      held.delete(step.node);
      if (owned) await (step.do === "leave" ? owned.leave() : takeAway(store, owned));
    }
    await compare(store, model);
  }
}

async function compare(store: Store, model: OwnershipModel): Promise<void> {
  const owners = await ownersIn(store);
  expect(Object.fromEntries(owners)).toEqual(
    Object.fromEntries([...model.owned].map(([node, { subnet }]) => [node, formatCidr(subnet)])),
  );
  const slots = Object.entries(await contentsOf(store, prefixes.slots)).map(([key, value]) => [
    key.slice(prefixes.slots.length),
    (JSON.parse(value) as { node: string }).node,
  ]);
  expect(Object.fromEntries(slots)).toEqual(model.slots());
  // Said once more without the model.
  const subnets = [...owners.values()].map((text) => parseCidr(text));
  for (const [i, a] of subnets.entries()) {
    for (const b of subnets.slice(i + 1)) expect(overlaps(a, b)).toBe(false);
  }
}

function codeOf(error: unknown): string {
  if (error instanceof CocoonError) return error.code;
  throw error;
}
