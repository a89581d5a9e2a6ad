import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type AddressRecord,
  Journal,
  type Lease,
  LeaseEngine,
  type LoadedLeases,
  leasesOnDisk,
  loadLeases,
} from "@cocoon-net/dhcp";
import { describe, expect, it } from "vitest";
import { macOf, optionsWithPool } from "./client-messages.ts";
import { scratchDirectory } from "./scratch-directory.ts";

const T = Date.UTC(2026, 10, 1);
const hour = 3_600_000;
const iso = (time: number): string => new Date(time).toISOString().replace(".000Z", "Z");

class Node {
  readonly journalPath: string;
  readonly leasesFilePath: string;

  constructor(directory: string) {
    this.journalPath = join(directory, "journal");
    this.leasesFilePath = join(directory, "leases.json");
  }

  async journal(...records: AddressRecord[]): Promise<void> {
    const { journal } = await Journal.open(this.journalPath);
    await journal.append(records);
    await journal[Symbol.asyncDispose]();
  }

  file(...entries: unknown[]): Promise<void> {
    return writeFile(this.leasesFilePath, JSON.stringify(entries));
  }

  async load(): Promise<LoadedLeases> {
    const loaded = await loadLeases({ ...this, now: T });
    await loaded.journal[Symbol.asyncDispose]();
    return loaded;
  }

  async live(): Promise<string[]> {
    const onDisk = await leasesOnDisk({ ...this, now: T });
    const { state } = await this.load();
    expect(shown(onDisk)).toEqual(shown(state.records.filter((one) => one.state === "leased")));
    const engine = new LeaseEngine(optionsWithPool(250), state);
    engine.expire(T);
    return shown(engine.leases());
  }
}

const shown = (leases: Iterable<Omit<Lease, "seq">>): string[] =>
  [...leases]
    .filter(({ expiry }) => expiry > T)
    .map(({ ip, mac, expiry }) => `${ip} ${mac} ${(expiry - T) / hour}`)
    .toSorted();
const node = async (): Promise<Node> => new Node(await scratchDirectory());
const entry = (index: number, hours: number, client = index): unknown => ({
  mac: macOf(client),
  ip: `10.0.0.${index}`,
  expiry: iso(T + hours * hour),
});
const leased = (index: number, hours: number, seq: number, client = index): AddressRecord => ({
  state: "leased",
  ip: `10.0.0.${index}`,
  mac: macOf(client),
  expiry: T + hours * hour,
  seq,
});
const live = (index: number, hours: number, client = index): string =>
  `10.0.0.${index} ${macOf(client)} ${hours}`;

describe("loading leases (G9)", () => {
  it("starts empty where there is nothing", async () => {
    const loaded = await (await node()).load();
    expect(loaded).toMatchObject({ state: { seq: 0, records: [] }, adopted: [], cutBytes: 0, skipped: 0 });
  });

  it("takes over the leases of the program before ours, and journals them", async () => {
    const here = await node();
    await here.file(entry(2, 5), { ...(entry(3, 6) as object), mac: macOf(3).toUpperCase() });
    const loaded = await here.load();
    expect(loaded.adopted.map(({ ip }) => ip).toSorted()).toEqual(["10.0.0.2", "10.0.0.3"]);
    expect(loaded.state.seq).toBe(2);
    await writeFile(here.leasesFilePath, "[]");
    expect(await here.live()).toEqual([live(2, 5), live(3, 6)]);
  });

  it("skips entries that have expired or do not parse", async () => {
    const here = await node();
    const good = entry(2, 5) as object;
    await here.file(
      good,
      entry(3, -1),
      null,
      7,
      { ...good, mac: "52:54" },
      { ...good, ip: "10.0.0.300" },
      { ...good, expiry: "tomorrow" },
      { ...good, expiry: 12 },
    );
    const loaded = await here.load();
    expect([loaded.adopted.length, loaded.skipped]).toEqual([1, 7]);
  });

  it("reads the offsets and fractions that RFC 3339 allows", async () => {
    const here = await node();
    await here.file({ mac: macOf(2), ip: "10.0.0.2", expiry: "2026-11-01T09:30:00.5+08:00" });
    expect((await here.load()).adopted[0]?.expiry).toBe(T + 1.5 * hour + 500);
  });

  it("prefers the journal, and adopts only what is newer than it", async () => {
    const here = await node();
    await here.journal(leased(2, 5, 1), leased(3, 5, 2), leased(4, 5, 3));
    await here.file(entry(2, 4), entry(3, 9), entry(4, 9, 44));
    expect(await here.live()).toEqual([live(2, 5), live(3, 9), live(4, 9, 44)]);
  });

  it("does not bring a lease back that the journal ended while leases.json was behind", async () => {
    const here = await node();
    const ended = { ip: "10.0.0.2", mac: macOf(2), expiry: T + 5 * hour, seq: 1, until: T + 60_000 } as const;
    await here.journal(leased(2, 5, 1), { state: "ended", ...ended });
    await here.file(entry(2, 5));
    expect(await here.live()).toEqual([]);
    await here.file(entry(2, 8, 22));
    expect(await here.live()).toEqual([live(2, 8, 22)]);
  });

  it("leaves one lease of a client that moved while leases.json was behind", async () => {
    const here = await node();
    await here.journal(leased(3, 6, 2, 7));
    await here.file(entry(2, 5, 7));
    expect(await here.live()).toEqual([live(3, 6, 7)]);
    await here.file(entry(2, 8, 7));
    expect(await here.live()).toEqual([live(2, 8, 7)]);
  });

  it("takes the newest of several entries for one address or one client", async () => {
    const here = await node();
    await here.file(entry(2, 3, 1), entry(2, 5, 2), entry(4, 4, 2));
    expect(await here.live()).toEqual([live(2, 5, 2)]);
  });

  it.each(["", "[{", "{}", '"leases"'])("keeps a corrupt leases.json aside: %j", async (text) => {
    const here = await node();
    await here.journal(leased(3, 6, 2));
    await writeFile(here.leasesFilePath, text);
    await expect(here.load()).rejects.toMatchObject({ code: "corrupt" });
    const names = (await readdir(join(here.leasesFilePath, ".."))).toSorted();
    expect(names).toEqual(["journal", expect.stringMatching(/^leases\.json\.corrupt-/)]);
    expect(await readFile(join(here.leasesFilePath, "..", String(names[1])), "utf8")).toBe(text);
    expect(await here.live()).toEqual([live(3, 6)]);
  });
});
