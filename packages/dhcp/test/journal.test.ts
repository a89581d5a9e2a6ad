import { execFileSync } from "node:child_process";
import { copyFile, mkdir, readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { CorruptError, UnavailableError } from "@cocoon-net/core";
import { type AddressRecord, Journal, LeaseEngine } from "@cocoon-net/dhcp";
import { describe, expect, it, onTestFinished } from "vitest";
import { gateway, macOf, optionsWithPool, request } from "./client-messages.ts";
import { scratchDirectory } from "./scratch-directory.ts";

const T = Date.UTC(2026, 10, 1);

const leased = (index: number, seq = index): AddressRecord => ({
  state: "leased",
  ip: `10.0.0.${index}`,
  mac: macOf(index),
  expiry: T,
  seq,
});

async function reopen(
  path: string,
): Promise<{ records: readonly AddressRecord[]; seq: number; cutBytes: number }> {
  const { journal, state, cutBytes } = await Journal.open(path);
  await journal[Symbol.asyncDispose]();
  return { ...state, cutBytes };
}

/** A small file system that can be full or read-only, for real. */
async function smallDisk(): Promise<string> {
  const path = join(await scratchDirectory(), "disk");
  await mkdir(path);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", path], { stdio: "pipe" });
  } catch (cause) {
    throw new Error("this test mounts a tmpfs: run it as root, with mount (util-linux) installed", { cause });
  }
  onTestFinished(() => {
    execFileSync("umount", ["--lazy", path]);
  });
  return path;
}

describe("journal", () => {
  it("gives back what was appended, the last record of an address", async () => {
    const path = join(await scratchDirectory(), "journal");
    const { journal, state } = await Journal.open(path);
    expect(state).toEqual({ seq: 0, records: [] });
    await journal.append([leased(2), leased(3)]);
    const ended: AddressRecord = {
      state: "ended",
      ip: "10.0.0.2",
      until: T + 1,
      mac: macOf(2),
      expiry: T,
      seq: 2,
    };
    await journal.append([ended]);
    await journal[Symbol.asyncDispose]();
    await journal[Symbol.asyncDispose]();
    await expect(journal.append([ended])).rejects.toBeInstanceOf(UnavailableError);
    expect(await reopen(path)).toEqual({ seq: 3, records: [ended, leased(3)], cutBytes: 0 });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  it("shares one fdatasync among everything that waits", async () => {
    const path = join(await scratchDirectory(), "journal");
    const { journal } = await Journal.open(path);
    await Promise.all(
      Array.from({ length: 500 }, (_, index) => journal.append([leased(index % 250, index)])),
    );
    expect(journal.stats).toMatchObject({ records: 500, failing: undefined });
    expect(journal.stats.syncs).toBeLessThanOrEqual(3);
    await journal[Symbol.asyncDispose]();
    expect((await reopen(path)).records).toHaveLength(250);
  });

  it("compacts to the current state, while appends go on", async () => {
    const path = join(await scratchDirectory(), "journal");
    const { journal } = await Journal.open(path, { compactBytes: 4096 });
    const state = new Map<string, AddressRecord>();
    let seq = 0;
    journal.compactFrom({
      get seq() {
        return seq;
      },
      records: () => state.values(),
    });
    for (let round = 0; round < 100; round++) {
      const group = Array.from({ length: 4 }, (_, index) => leased(index, ++seq));
      for (const record of group) state.set(record.ip, record);
      await Promise.all(group.map((record) => journal.append([record])));
    }
    expect(journal.stats.compactions).toBeGreaterThan(3);
    expect(journal.stats.bytes).toBeLessThan(8192);
    await journal[Symbol.asyncDispose]();
    const again = await reopen(path);
    expect(again.seq).toBe(400);
    expect(again.records.toSorted((one, other) => one.seq - other.seq)).toEqual([...state.values()]);
    expect(await readdir(join(path, ".."))).toEqual(["journal"]);
  });

  it("ignores what a crash in the middle of a compaction left behind", async () => {
    const directory = await scratchDirectory();
    const path = join(directory, "journal");
    const { journal } = await Journal.open(path);
    await journal.append([leased(2)]);
    await journal[Symbol.asyncDispose]();
    await writeFile(`${path}.tmp`, (await readFile(path)).subarray(0, 20));
    expect((await reopen(path)).records).toEqual([leased(2)]);
  });

  it("remembers the highest grant number also when its lease is gone", async () => {
    const path = join(await scratchDirectory(), "journal");
    const { journal } = await Journal.open(path, { compactBytes: 0 });
    journal.compactFrom({ seq: 77, records: () => [] });
    await journal.append([leased(2, 77)]);
    await journal[Symbol.asyncDispose]();
    expect(await reopen(path)).toEqual({ seq: 77, records: [], cutBytes: 0 });
  });
});

describe("a crash", () => {
  it("at any byte of the last writes loses no acknowledged lease and grants none twice (G2, G9)", async () => {
    const directory = await scratchDirectory();
    const path = join(directory, "journal");
    const options = optionsWithPool(6);
    const { journal } = await Journal.open(path);
    const engine = new LeaseEngine(options);
    /** How long the file was when the lease of that MAC was acknowledged. */
    const acknowledged: { mac: string; ip: string; size: number }[] = [];
    const header = (await stat(path)).size;
    for (let index = 1; index <= 5; index++) {
      const mac = macOf(index);
      const offer = engine.handle(request({ type: "discover", mac }), T);
      if (offer.kind !== "offer") throw new Error("no offer");
      const decision = engine.handle(
        { ...request({ type: "request", mac, server: gateway }), requestedAddress: offer.address },
        T,
      );
      if (decision.kind !== "grant") throw new Error("no grant");
      await journal.append(decision.records);
      engine.commit(decision);
      acknowledged.push({ mac, ip: decision.lease.ip, size: (await stat(path)).size });
    }
    await journal[Symbol.asyncDispose]();

    const full = (await stat(path)).size;
    const cut = join(directory, "cut");
    for (let size = header; size <= full; size++) {
      await copyFile(path, cut);
      await truncate(cut, size);
      const { journal: after, state, cutBytes } = await Journal.open(cut);
      const revived = new LeaseEngine(options, state);
      const live = new Map([...revived.leases()].map(({ ip, mac }) => [ip, mac]));
      const durable = acknowledged.filter((lease) => lease.size <= size);
      expect(live).toEqual(new Map(durable.map(({ ip, mac }) => [ip, mac])));
      expect(cutBytes).toBe(size - (durable.at(-1)?.size ?? header));
      expect((await stat(cut)).size).toBe(size - cutBytes);
      // A newcomer gets none of theirs, and what it gets can be journalled behind the cut.
      const offer = revived.handle(request({ type: "discover", mac: macOf(99) }), T);
      const ip = offer.kind === "offer" ? `10.0.0.${offer.address & 255}` : undefined;
      expect(ip).toBeDefined();
      expect(live.has(String(ip))).toBe(false);
      await after.append([{ ...leased(200), seq: state.seq + 1 }]);
      await after[Symbol.asyncDispose]();
      expect((await reopen(cut)).records).toHaveLength(durable.length + 1);
    }
  });

  it("that wrote the last frame's end but not its middle cuts that frame", async () => {
    const path = join(await scratchDirectory(), "journal");
    const { journal } = await Journal.open(path);
    await journal.append([leased(2)]);
    const whole = (await stat(path)).size;
    await journal.append(Array.from({ length: 100 }, (_, index) => leased(index)));
    await journal[Symbol.asyncDispose]();
    const bytes = await readFile(path);
    bytes.fill(0, whole + 100, whole + 2000);
    await writeFile(path, bytes);
    expect(await reopen(path)).toEqual({ seq: 2, records: [leased(2)], cutBytes: bytes.length - whole });
  });
});

describe("a damaged journal", () => {
  async function damaged(change: (bytes: Buffer) => Buffer): Promise<{ path: string; bytes: Buffer }> {
    const path = join(await scratchDirectory(), "journal");
    const { journal } = await Journal.open(path);
    for (let index = 2; index < 6; index++) await journal.append([leased(index)]);
    await journal[Symbol.asyncDispose]();
    const bytes = change(await readFile(path));
    await writeFile(path, bytes);
    return { path, bytes };
  }

  it.each([
    ["its header is damaged", (bytes: Buffer) => bytes.fill(0, 2, 6)],
    ["its header is damaged", () => Buffer.alloc(0)],
    ["it is damaged at byte", (bytes: Buffer) => bytes.fill(0, 120, 121)],
    ["it is damaged from byte", (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(2 << 20, 7)])],
  ])("is kept aside and reported, never overwritten: %s", async (reason, change) => {
    const { path, bytes } = await damaged(change);
    await expect(Journal.open(path)).rejects.toThrow(reason);
    const names = await readdir(join(path, ".."));
    expect(names).toHaveLength(1);
    expect(names[0]).toMatch(/^journal\.corrupt-20/);
    expect(await readFile(join(path, "..", String(names[0])))).toEqual(bytes);
  });

  it("of a later version is not touched otherwise", async () => {
    const header = JSON.stringify({ format: "cocoon-net-leases", version: 2, seq: 1 });
    const sum = crc32(header).toString(16).padStart(8, "0");
    const { path } = await damaged(() => Buffer.from(`${sum} ${header}\n`));
    const failure = Journal.open(path);
    await expect(failure).rejects.toBeInstanceOf(CorruptError);
    await expect(failure).rejects.toThrow("which this version does not know");
  });
});

describe("a disk that refuses writes", () => {
  it("refuses appends, keeps what was acknowledged, and takes up again by itself when there is room", async () => {
    const disk = await smallDisk();
    const path = join(disk, "journal");
    const { journal } = await Journal.open(path);
    await journal.append([leased(2)]);
    await writeFile(join(disk, "ballast"), Buffer.alloc(1 << 20)).catch(() => undefined);
    let refused = 0;
    let accepted = 1;
    // The last page of the file has room left, so the first of these still fit.
    for (let index = 0; index < 200; index++) {
      await journal.append([leased(2, ++accepted)]).catch((error: unknown) => {
        accepted--;
        refused++;
        expect(error).toMatchObject({ code: "unavailable", outcome: "none" });
      });
    }
    expect(refused).toBeGreaterThan(100);
    expect(journal.stats.failing).toContain("ENOSPC");
    await truncate(join(disk, "ballast"), 0);
    await journal.append([leased(3, 999)]);
    expect(journal.stats.failing).toBeUndefined();
    await journal[Symbol.asyncDispose]();
    expect(await reopen(path)).toEqual({
      seq: 999,
      records: [leased(2, accepted), leased(3, 999)],
      cutBytes: 0,
    });
  });

  it("catches up on records that were refused while the state moved on", async () => {
    const disk = await smallDisk();
    const path = join(disk, "journal");
    const { journal } = await Journal.open(path);
    const state = new Map<string, AddressRecord>([["10.0.0.2", leased(2)]]);
    journal.compactFrom({ seq: 9, records: () => state.values() });
    await journal.append([leased(2)]);
    await writeFile(join(disk, "ballast"), Buffer.alloc(1 << 20)).catch(() => undefined);
    const wide: AddressRecord[] = Array.from({ length: 100 }, (_, index) => leased(index));
    await expect(journal.append(wide)).rejects.toBeInstanceOf(UnavailableError);
    const ended: AddressRecord = { state: "ended", ip: "10.0.0.2", until: T, expiry: T, seq: 2 };
    state.set("10.0.0.2", ended); // its own append was among the refused
    await truncate(join(disk, "ballast"), 0);
    state.set("10.0.0.4", leased(4));
    await journal.append([leased(4)]);
    await journal[Symbol.asyncDispose]();
    expect(await reopen(path)).toEqual({ seq: 9, records: [ended, leased(4)], cutBytes: 0 });
  });
});
