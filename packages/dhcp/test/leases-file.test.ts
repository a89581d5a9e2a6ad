import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { formatAddress, parseAddress } from "@cocoon-net/core";
import { type FileLease, LeasesFile } from "@cocoon-net/dhcp";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { macOf } from "./client-messages.ts";
import { scratchDirectory, until } from "./scratch-directory.ts";

const T = Date.UTC(2026, 3, 5, 6);
const lease = (index: number, expiry = T): FileLease => ({
  mac: macOf(index),
  ip: `172.20.100.${index}`,
  expiry,
});

async function open(leases: FileLease[], path?: string): Promise<{ file: LeasesFile; problems: unknown[] }> {
  const problems: unknown[] = [];
  const onProblem = (error: unknown): void => {
    problems.push(error);
  };
  const file = new LeasesFile(path ?? join(await scratchDirectory(), "leases.json"), { onProblem });
  onTestFinished(() => file[Symbol.asyncDispose]());
  await file.start({
    leases: () => leases,
    leaseOf: (address) => leases.find(({ ip }) => parseAddress(ip) === address),
  });
  return { file, problems };
}

describe("leases.json", () => {
  it("has today's format, sorted by address, and mode 0644", async () => {
    const before = process.umask(0o077);
    onTestFinished(() => {
      process.umask(before);
    });
    const more = { ...lease(7), seq: 4, hostname: "g7", clientID: "01" };
    const { file } = await open([lease(20), more]);
    expect(JSON.parse(await readFile(file.path, "utf8"))).toEqual([
      { mac: "52:54:00:00:00:07", ip: "172.20.100.7", expiry: "2026-04-05T06:00:00Z" },
      { mac: "52:54:00:00:00:14", ip: "172.20.100.20", expiry: "2026-04-05T06:00:00Z" },
    ]);
    expect((await stat(file.path)).mode & 0o777).toBe(0o644);
    expect(await readdir(join(file.path, ".."))).toEqual(["leases.json"]);
  });

  it("is an empty array without leases", async () => {
    const { file } = await open([]);
    expect(JSON.parse(await readFile(file.path, "utf8"))).toEqual([]);
  });

  it("shows a change within 100 ms, and a reader never sees a broken file", async () => {
    const leases: FileLease[] = [];
    const { file } = await open(leases);
    const done = new AbortController();
    let reads = 0;
    const reader = (async () => {
      while (!done.signal.aborted) {
        expect(Array.isArray(JSON.parse(await readFile(file.path, "utf8")))).toBe(true);
        reads++;
      }
    })();
    const delays: number[] = [];
    for (let index = 1; index <= 30; index++) {
      leases.push(lease(index));
      const start = performance.now();
      file.touch(parseAddress(lease(index).ip));
      const shown = async (): Promise<boolean> =>
        (await readFile(file.path, "utf8")).includes(`"172.20.100.${index}"`);
      await until(shown, `lease ${index} in the file`);
      delays.push(performance.now() - start);
    }
    done.abort();
    await reader;
    expect(reads).toBeGreaterThan(30);
    // A busy machine adds to most of them; a design that is late is late each time.
    const sorted = delays.toSorted((one, other) => one - other);
    expect(sorted[2]).toBeLessThan(100);
  });

  it("gathers the changes of a burst into few writes", async () => {
    const leases: FileLease[] = [];
    const { file } = await open(leases);
    const seen = new Set<bigint>();
    for (let index = 1; index <= 200; index++) {
      leases.push(lease(index));
      file.touch(parseAddress(lease(index).ip));
      if (index % 20 === 0) await file.flush();
      seen.add((await stat(file.path, { bigint: true })).ino);
    }
    expect(JSON.parse(await readFile(file.path, "utf8"))).toHaveLength(200);
    expect(seen.size).toBeLessThan(60);
  });

  it("is not touched when nothing changed, also when another program wrote it", async () => {
    const path = join(await scratchDirectory(), "leases.json");
    await writeFile(
      path,
      `[ {"ip": "172.20.100.7", "mac": "52:54:00:00:00:07",\n "expiry": "2026-04-05T06:00:00Z"} ]`,
    );
    const before = await stat(path, { bigint: true });
    const { file } = await open([lease(7)], path);
    file.touch(parseAddress(lease(7).ip));
    await file.flush();
    const after = await stat(path, { bigint: true });
    expect([after.ino, after.mtimeNs]).toEqual([before.ino, before.mtimeNs]);
  });

  it("has the bytes that a whole new text would have, whatever changed before", async () => {
    const expiry = fc.constantFrom(T, T + 1000, T + 1500);
    const change = fc.tuple(fc.nat({ max: 700 }), fc.option(expiry, { nil: undefined }));
    const rounds = fc.array(fc.array(change, { maxLength: 30 }), { maxLength: 12 });
    const base = parseAddress("10.77.254.0");
    const directory = await scratchDirectory();
    await fc.assert(
      fc.asyncProperty(rounds, async (changes) => {
        const live = new Map<number, FileLease>();
        const source = {
          leases: () => live.values(),
          leaseOf: (address: number) => live.get(address - base),
        };
        await using file = new LeasesFile(join(directory, "leases.json"));
        await file.start(source);
        for (const round of changes) {
          for (const [index, until] of round) {
            const ip = formatAddress(base + index);
            if (until === undefined) live.delete(index);
            else live.set(index, { mac: macOf(index & 255), ip, expiry: until });
            file.touch(parseAddress(ip));
          }
          await file.flush();
          const sorted = [...live].toSorted(([one], [other]) => one - other);
          const entries = sorted.map(([, { mac, ip, expiry: until }]) => {
            return JSON.stringify({ mac, ip, expiry: new Date(until).toISOString().replace(".000Z", "Z") });
          });
          const whole = entries.length === 0 ? "[]\n" : `[\n${entries.join(",\n")}\n]\n`;
          expect(await readFile(file.path, "utf8")).toBe(whole);
        }
      }),
      { numRuns: 30 },
    );
  });

  it("is written at last when it is disposed, once", async () => {
    const leases: FileLease[] = [];
    const { file } = await open(leases);
    leases.push(lease(1));
    file.touch(parseAddress(lease(1).ip));
    await file[Symbol.asyncDispose]();
    await file[Symbol.asyncDispose]();
    expect(JSON.parse(await readFile(file.path, "utf8"))).toHaveLength(1);
  });

  it("reports a write that fails, once, and catches up when it can", async () => {
    const directory = join(await scratchDirectory(), "later");
    const { file, problems } = await open([lease(1)], join(directory, "leases.json"));
    file.touch(parseAddress(lease(1).ip));
    await file.flush();
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatchObject({ code: "ENOENT" });
    await mkdir(directory);
    await until(
      () =>
        stat(file.path).then(
          () => true,
          () => false,
        ),
      "the file",
    );
    await rm(directory, { recursive: true });
  });
});
