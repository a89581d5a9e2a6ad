import { monotonicClock } from "@cocoon-net/core";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { type ProbedStream, WatchProbes } from "../src/watch-probes.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A stream that answers, as long as it does. */
class Stream implements ProbedStream {
  readonly range = { key: Buffer.from("a"), range_end: Buffer.from("b") };
  heard = true;
  answers = true;
  asked: number[] = [];
  failures: unknown[] = [];

  ask(): void {
    this.asked.push(Date.now());
    this.heard = this.answers;
  }

  fail(error: unknown): void {
    this.failures.push(error);
  }
}

it("streams are asked at one time, and who has not answered in 5 s has failed; none is left, none is asked", async () => {
  const probes = new WatchProbes(async () => undefined);
  const [lively, silent] = [new Stream(), new Stream()];
  const first = probes.add(lively);
  await vi.advanceTimersByTimeAsync(3_000);
  const second = probes.add(silent);
  silent.answers = false;
  await vi.advanceTimersByTimeAsync(12_000 + 4_999);
  expect(silent.asked).toEqual(lively.asked);
  expect(silent.failures).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(silent.failures).toEqual([new Error("no sign of life")]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(lively.asked).toHaveLength(2);
  expect(lively.failures).toEqual([]);
  second[Symbol.dispose]();
  expect(vi.getTimerCount()).toBeGreaterThan(0);
  first[Symbol.dispose]();
  expect(vi.getTimerCount()).toBe(0);
});

it("a stream that answers late, or ends while its answer is due, does not fail", async () => {
  const probes = new WatchProbes(async () => undefined);
  const [late, ended] = [new Stream(), new Stream()];
  using _ = probes.add(late);
  const ending = probes.add(ended);
  late.answers = ended.answers = false;
  await vi.advanceTimersByTimeAsync(15_000 + 3_000);
  late.heard = true;
  ending[Symbol.dispose]();
  await vi.advanceTimersByTimeAsync(5_000);
  expect([late, ended].map(({ failures }) => failures)).toEqual([[], []]);
});

it("streams are asked sooner when the process is awake for another question", async () => {
  const probes = new WatchProbes(async () => undefined);
  const stream = new Stream();
  const begun = Date.now();
  monotonicClock.after(13_000, () => undefined, 100);
  using _ = probes.add(stream);
  await vi.advanceTimersByTimeAsync(13_000);
  expect(stream.asked).toEqual([begun + 13_000]);
});

it("all streams of a member that is cut off from the others fail within a minute, although they answer", async () => {
  const cutOff = new Error("no leader");
  const probes = new WatchProbes(() => Promise.reject(cutOff));
  const streams = [new Stream(), new Stream()];
  using stack = new DisposableStack();
  for (const stream of streams) stack.use(probes.add(stream));
  await vi.advanceTimersByTimeAsync(60_000);
  expect(streams.map(({ failures }) => failures)).toEqual([[cutOff], [cutOff]]);
});
