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

it("streams are asked at one time, and who has not answered by the next has failed; none is left, none is asked", async () => {
  const probes = new WatchProbes(async () => undefined);
  const [lively, silent] = [new Stream(), new Stream()];
  const first = probes.add(lively);
  await vi.advanceTimersByTimeAsync(3_000);
  const second = probes.add(silent);
  silent.answers = false;
  await vi.advanceTimersByTimeAsync(10_000);
  expect(silent.asked).toEqual(lively.asked);
  expect(silent.failures).toEqual([]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(silent.failures).toEqual([new Error("no sign of life")]);
  expect(lively.asked).toHaveLength(2);
  expect(lively.failures).toEqual([]);
  second[Symbol.dispose]();
  expect(vi.getTimerCount()).toBe(1);
  first[Symbol.dispose]();
  expect(vi.getTimerCount()).toBe(0);
});

it("all streams of a member that is cut off from the others fail within a minute, although they answer", async () => {
  const cutOff = new Error("no leader");
  const probes = new WatchProbes(() => Promise.reject(cutOff));
  const streams = [new Stream(), new Stream()];
  for (const stream of streams) probes.add(stream);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(streams.map(({ failures }) => failures)).toEqual([[cutOff], [cutOff]]);
});
