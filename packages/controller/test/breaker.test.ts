import { expect, test } from "vitest";
import { Breaker, type BreakerNode } from "../src/breaker.ts";

const settings = { breakerShare: 0.2, breakerNodes: 3, breakerWindowMs: 300_000 };

/** `count` nodes, of which those in `troubled` are. */
function nodes(count: number, troubled: readonly number[]): BreakerNode[] {
  return Array.from({ length: count }, (_, index) => ({
    node: `n${index}`,
    troubled: troubled.includes(index),
  }));
}

test("more than the share, and at least the count, within the window opens it", () => {
  const breaker = new Breaker();
  breaker.update(nodes(10, [0, 1]), settings, 0);
  expect(breaker.open).toBe(false);
  expect(breaker.update(nodes(10, [0, 1, 2]), settings, 100_000)).toBe(true);
  expect(breaker.open).toBe(true);
});

test("two of three nodes are few, however large their share", () => {
  const breaker = new Breaker();
  breaker.update(nodes(3, [0, 1]), settings, 0);
  expect(breaker.open).toBe(false);
});

test("a fifth is not more than a fifth", () => {
  const breaker = new Breaker();
  breaker.update(nodes(20, [0, 1, 2, 3]), settings, 0);
  expect(breaker.open).toBe(false);
});

test("nodes that fall silent one by one, each long after the other, do not open it", () => {
  const breaker = new Breaker();
  const troubled: number[] = [];
  for (const index of [0, 1, 2, 3, 4]) {
    troubled.push(index);
    breaker.update(nodes(10, troubled), settings, index * 151_000);
    expect(breaker.open).toBe(false);
  }
});

test("it stays open when the window has passed and the nodes are still silent", () => {
  const breaker = new Breaker();
  breaker.update(nodes(10, [0, 1, 2]), settings, 0);
  breaker.update(nodes(10, [0, 1, 2]), settings, 3_600_000);
  expect(breaker.open).toBe(true);
});

test("it closes when enough of them have returned", () => {
  const breaker = new Breaker();
  breaker.update(nodes(10, [0, 1, 2]), settings, 0);
  expect(breaker.update(nodes(10, [0, 1]), settings, 10_000)).toBe(true);
  expect(breaker.open).toBe(false);
});

test("nodes that were reclaimed within the window still count as part of the burst", () => {
  const breaker = new Breaker();
  breaker.update(nodes(10, [0, 1]), settings, 0);
  const left = nodes(10, [2]).slice(2);
  breaker.update(left, settings, 200_000);
  expect(breaker.open).toBe(true);
});
