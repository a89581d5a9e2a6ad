import assert from "node:assert/strict";
import {
  ConflictError,
  contains,
  ExhaustedError,
  type MoveRequest,
  type NodeNetwork,
  type NodeResources,
  NotFoundError,
  parseCidr,
} from "@cocoon-net/core";
import { type Check, longMs } from "./check.ts";
import { killedAtEachStep, type Run, stoppedAtEachRequest } from "./interruptions.ts";
import { Move } from "./test-move.ts";
import { checkDelivered, TestNode } from "./test-node.ts";

export function moveChecks(check: Check): void {
  check("lets the other node have the address, and gives it back", async (world) => {
    const move = await Move.prepare(world);
    const there = await move.there();
    move.checkThere(there);
    move.checkThere(await move.there(), "again");
    const { to, from, address, observer } = move;
    const listed = await observer.listResources({
      tags: to.tags,
      parentCIDR: from.block,
      instance: to.instance,
    });
    const theirs = listed.filter((resource) => resource.instanceID === to.instanceID);
    const ofHome = theirs.flatMap(({ addresses }) => addresses).map((text) => text.replace("/32", ""));
    const block = parseCidr(from.block);
    assert.deepEqual(
      ofHome.filter((text) => contains(block, parseCidr(text.includes("/") ? text : `${text}/32`))),
      [address],
    );
    const back = await move.back(there.network);
    move.checkBack(back);

    // Nothing that was made for it is left when both nodes are gone.
    for (const [node, network] of [
      [move.from, back.network],
      [move.to, there.network],
    ] as const) {
      const target = node.target(network);
      assert.equal((await move.observer.fence(target, node.job())).verified, true);
      assert.deepEqual((await move.observer.release(target, node.job())).remaining, []);
    }
    assert.deepEqual([...world.resources(move.from.block), ...world.resources(move.to.block)], []);
  });

  check(
    "killed at any recorded step and run again, or undone, it ends as if it had not been (G11)",
    async (world) => {
      const move = await Move.prepare(world);
      const job = move.from.job();
      const model = await move.there(job);
      await move.back(model.network);
      const run: Run<unknown> = (dying) => move.there(dying);
      await killedAtEachStep(job.calls, async (die) => {
        const { where, job: rest } = await die(run);
        const there = await move.there(rest);
        move.checkThere(there, where);
        move.checkBack(await move.back(there.network), where);
      });
      await killedAtEachStep(job.calls, async (die) => {
        const { where } = await die(run);
        move.checkBack(await move.back(), `${where}, then undone`);
      });
    },
    longMs,
  );

  check(
    "stopped before and after any request and run again, it ends as if it had not been (G11)",
    async (world) => {
      const move = await Move.prepare(world);
      await stoppedAtEachRequest(world, async (stop) => {
        const rest = await stop((job, signal) => move.there(job, signal));
        const there = await move.there(rest?.job);
        move.checkThere(there, rest?.where);
        move.checkBack(await move.back(there.network), rest?.where);
      });
    },
    longMs,
  );

  check("is taken from the other node when it goes to nobody", async (world) => {
    const move = await Move.prepare(world);
    const there = await move.there();
    const target = move.to.target(there.network, { movedIn: [move.address] });
    for (let run = 0; run < 2; run++) {
      const after = await move.observer.shrink(target, [move.address], move.to.job());
      assert.ok(!after.addresses.includes(move.address));
      for (const has of move.target.addresses) assert.ok(after.addresses.includes(has), has);
      assert.equal(world.delivered(move.from.block).get(move.address), undefined);
      checkDelivered(world, move.to.block, move.target.addresses, move.to.instanceID);
    }
  });

  check("is taken from an instance of which no more is known than its id", async (world) => {
    const move = await Move.prepare(world);
    const { from, to, address, observer } = move;
    const known = ofInstance(move, (await move.there()).network);
    move.checkBack(await observer.move(homeFrom(move, known), from.job()));
    await move.there();
    const after = await observer.shrink(known, [address], from.job());
    assert.ok(!after.addresses.includes(address));
    assert.equal(world.delivered(from.block).get(address), undefined);
    checkDelivered(world, to.block, move.target.addresses, to.instanceID);
  });

  check("is nobody's when its instance is gone, and goes home", async (world) => {
    const move = await Move.prepare(world);
    const { from, to, address, home, observer } = move;
    const known = ofInstance(move, (await move.there()).network);
    world.deleteInstance(to.instanceID);
    await observer.shrink(known, [address], from.job()).catch((error: unknown) => {
      assert.ok(error instanceof NotFoundError, String(error));
    });
    assert.equal(world.delivered(from.block).get(address), undefined);
    const { verified, evidence } = await observer.move(homeFrom(move, known), from.job());
    assert.equal(verified, true, evidence);
    checkDelivered(world, from.block, home.addresses, from.instanceID);
  });

  check("to a node that has no room for it is refused, and nothing is changed", async (world) => {
    const move = await Move.prepare(world);
    const { nicsPerNode, aliasRangesPerNIC } = await move.to.cloud.describeLimits(move.to.instance);
    for (let n = 0; n < (aliasRangesPerNIC ?? nicsPerNode ?? 0); n++) {
      world.attachForeign(world.block(20 + n), move.to.instanceID);
    }
    const delivered = world.delivered(move.from.block);
    const resources = [...world.resources(move.from.block)].sort();
    await assert.rejects(move.there(), ExhaustedError);
    assert.deepEqual(world.delivered(move.from.block), delivered);
    assert.deepEqual([...world.resources(move.from.block)].sort(), resources);
  });

  check("of an address that a third node has by now is refused, and nothing is changed", async (world) => {
    const move = await Move.prepare(world);
    const { from, to, address, home, target, observer } = move;
    await move.there();
    const third = await TestNode.start(world, 2);
    const network = await third.provision();
    const before = [from, to, third].map(({ block }) => world.delivered(block));
    const request = {
      address,
      from: from.target(home),
      to: third.target(network),
      instance: third.instance,
      tags: third.tags,
    };
    await assert.rejects(observer.move(request, third.job()), ConflictError);
    assert.deepEqual(
      [from, to, third].map(({ block }) => world.delivered(block)),
      before,
    );
    checkDelivered(world, to.block, target.addresses, to.instanceID);
  });
}

/** Of a node that owns no subnet any more, and was not fenced. */
function ofInstance({ to, address }: Move, { subnetID }: NodeNetwork): NodeResources {
  const where = subnetID === undefined ? {} : { subnetID };
  return { ...to.target(where), subnet: "0.0.0.0/32", movedIn: [address] };
}

function homeFrom({ from, home, address }: Move, known: NodeResources): MoveRequest {
  const target = from.target(home, { movedAway: [address] });
  return { address, from: known, to: target, instance: from.instance, tags: from.tags };
}
