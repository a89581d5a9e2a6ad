import { describe, expect, it } from "vitest";
import { cloudBench } from "../src/cloud/bench.ts";
import { gceLeast, IdealBucket, volcengineLeast } from "../src/cloud/least.ts";

describe("the least", () => {
  it("of requests in one bucket is its burst at once and then its rate", () => {
    const rate = { perSecond: 2, burst: 2 };
    expect(new IdealBucket(rate).last(2)).toBe(0);
    expect(new IdealBucket(rate).last(4)).toBe(1_000);
    const waiting = new IdealBucket(rate);
    expect([waiting.next(), waiting.next(5_000), waiting.next(), waiting.next()]).toEqual([
      0, 5_000, 5_000, 5_500,
    ]);
  });

  it("by the minute waits until the request is a minute old that makes room", () => {
    const rate = { perSecond: 10, burst: 1, perMinute: 3 };
    const bucket = new IdealBucket(rate);
    expect([1, 2, 3, 4, 5].map(() => Math.round(bucket.next()))).toEqual([0, 100, 200, 60_000, 60_100]);
  });

  it("of a node is bound by what has to come into effect, of many by the bucket", () => {
    const rates = { read: { perSecond: 4, burst: 6 }, write: { perSecond: 2, burst: 2 } };
    const delays = { createSubnetMs: 1_000, createEniMs: 2_000, attachMs: 4_000 };
    const node = { enis: 1, addressesPerEni: 20 };
    expect(volcengineLeast(1, node, rates, delays)).toMatchObject({ writes: 3, reads: 6, ms: 7_000 });
    const large = { enis: 7, addressesPerEni: 20 };
    expect(volcengineLeast(100, large, rates, delays)).toMatchObject({
      writes: 1_500,
      reads: 600,
      ms: 749_000 + 4_000,
    });
    const minute = { perSecond: 10, burst: 20, perMinute: 60 };
    expect(gceLeast(61, { read: rates.read, write: minute }, 2_000).ms).toBe(62_000);
  });
});

it("what is counted is right, and nothing is refused", { timeout: 180_000 }, async () => {
  const options = { nodes: [2], poolSize: 20, speed: 20 };
  const { figures, failures, notes } = await cloudBench(options);
  expect(failures).toEqual([]);
  const value = (platform: string, what: string) =>
    figures.find((figure) => figure.store === platform && figure.what.trim() === what);
  for (const [platform, writes, reads] of [
    ["volcengine", 6, 12],
    ["gke", 2, 8],
  ] as const) {
    expect(value(platform, "of them writes")).toMatchObject({ ours: writes, raw: writes });
    expect(value(platform, "of them reads")).toMatchObject({ raw: reads });
    expect(value(platform, "of them reads")?.ours).toBeGreaterThanOrEqual(reads);
    for (const what of [
      "refused for the rate",
      "refused for another reason",
      "nodes with too few addresses",
      "requests that the driver does not report",
    ]) {
      expect(value(platform, what)?.ours, `${platform}: ${what}`).toBe(0);
    }
    const time = value(platform, "init of 2 nodes at once");
    expect(time?.ours).toBeGreaterThanOrEqual(time?.raw ?? Number.POSITIVE_INFINITY);
  }
  expect(notes.join("\n")).toContain("the last of 6 writes at");
});
