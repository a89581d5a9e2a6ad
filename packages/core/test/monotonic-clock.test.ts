import { monotonicClock } from "@cocoon-net/core";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function notes(): {
  ran: [name: string, at: number][];
  after: (name: string, ms: number, earlyMs?: number) => () => void;
} {
  const ran: [string, number][] = [];
  const begun = performance.now();
  const note = (name: string) => ran.push([name, Math.round(performance.now() - begun)]);
  return { ran, after: (name, ms, earlyMs) => monotonicClock.after(ms, () => void note(name), earlyMs) };
}

it("what may run early runs with the first that must, and alone no sooner than it must", async () => {
  const { ran, after } = notes();
  after("last", 100, 20);
  after("with the first", 60, 20);
  after("first", 50, 5);
  after("exact", 55);
  await vi.advanceTimersByTimeAsync(200);
  expect(ran).toEqual([
    ["with the first", 50],
    ["first", 50],
    ["exact", 55],
    ["last", 100],
  ]);
});

it("what is cancelled does not run, not even by another at the same time; when none is left, no timer is", async () => {
  const { ran, after } = notes();
  after("sooner", 10, 1)();
  expect(vi.getTimerCount()).toBe(0);
  monotonicClock.after(20, () => cancel(), 1);
  const cancel = after("with it", 30, 20);
  after("again", 40, 1);
  await vi.advanceTimersByTimeAsync(100);
  expect(ran).toEqual([["again", 40]]);
  expect(vi.getTimerCount()).toBe(0);
});

it("one that throws does not keep the others from running", async () => {
  const { ran, after } = notes();
  const broken = () => {
    throw new Error("broken");
  };
  monotonicClock.after(20, broken, 1);
  after("with it", 30, 20);
  expect(() => vi.advanceTimersByTime(20)).toThrow("broken");
  await vi.advanceTimersByTimeAsync(5);
  expect(ran.map(([name]) => name)).toEqual(["with it"]);
  expect(vi.getTimerCount()).toBe(0);
});
