import { appendFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  detectFormat,
  type FollowedLeases,
  followLeasesFile,
  type LeaseFileFormatName,
  leaseFileFormat,
} from "@cocoon-net/dhcp";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { macOf } from "./client-messages.ts";
import { scratchDirectory, until } from "./scratch-directory.ts";

const T = 1_795_514_416;
const never = Date.UTC(9999, 11, 31, 23, 59, 59);

const parse = (name: LeaseFileFormatName, ...texts: (string | undefined)[]): FollowedLeases =>
  leaseFileFormat(name).parse(texts, "leases");
const leasesOf = (name: LeaseFileFormatName, ...texts: (string | undefined)[]): string[] =>
  parse(name, ...texts).leases.map(({ ip, mac, expiry }) => `${ip} ${mac} ${expiry / 1_000 - T}`);

const dnsmasqLine = (index: number, after = 0): string =>
  `${T + after} ${macOf(index)} 10.0.0.${index} vm-${index} 01:${macOf(index)}\n`;

const header =
  "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n";
const keaLine = (index: number, { after = 0, lifetime = 600, state = 0 } = {}): string =>
  `10.0.0.${index},${macOf(index)},01:${macOf(index)},${lifetime},${T + after},1,0,0,vm-${index},${state},\n`;

describe("dnsmasq's lease file", () => {
  it("is read with names, leases without end, and without the leases of IPv6", () => {
    const text = `${dnsmasqLine(1)}0 ${macOf(2).toUpperCase()} 10.0.0.2 * *
duid 00:01:00:01:2d
${T} 1 fd00::1 * 00:01:00:01:2d\n`;
    expect(parse("dnsmasq", text)).toEqual({
      leases: [
        { mac: macOf(1), ip: "10.0.0.1", expiry: T * 1_000, hostname: "vm-1" },
        { mac: macOf(2), ip: "10.0.0.2", expiry: never },
      ],
      complete: true,
    });
  });

  it("is taken for a part of one when it is empty, ends within a line, or has a line that is none", () => {
    expect(parse("dnsmasq", "")).toEqual({ leases: [], complete: false });
    expect(parse("dnsmasq", `${dnsmasqLine(1)}${dnsmasqLine(2).slice(0, -1)}`)).toMatchObject({
      leases: [{ ip: "10.0.0.1" }],
      complete: false,
    });
    expect(parse("dnsmasq", `${T} 06-52:54:00:00:00:09:09 10.0.0.9 * *\n${dnsmasqLine(1)}`)).toMatchObject({
      leases: [{ ip: "10.0.0.1" }],
      complete: false,
    });
    expect(() => parse("dnsmasq", "{}\n")).toThrow("is not a lease file of dnsmasq");
  });
});

describe("Kea's memfile", () => {
  it("says the last line of each address, in the order in which Kea loads its files", () => {
    const [previous, input, current] = [
      `${header}${keaLine(1)}${keaLine(2)}${keaLine(3)}`,
      `${header}${keaLine(1, { after: 10 })}${keaLine(2, { lifetime: 0 })}${keaLine(4)}`,
      `${header}${keaLine(2, { after: 20 })}${keaLine(3, { state: 2 })}`,
    ];
    const merged = [`10.0.0.1 ${macOf(1)} 10`, `10.0.0.2 ${macOf(2)} 20`, `10.0.0.4 ${macOf(4)} 0`];
    expect(leasesOf("kea", current, input, previous)).toEqual(merged);
    // Between the clean-up's steps: its result is there, what it came from still is too.
    const completed = `${header}${keaLine(1, { after: 10 })}${keaLine(3)}${keaLine(4)}`;
    expect(leasesOf("kea", current, input, previous, completed).toSorted()).toEqual(merged);
    expect(leasesOf("kea", current, undefined, completed).toSorted()).toEqual(merged);
  });

  it("is read without what is declined, without the line that is being written, and with its own columns", () => {
    expect(
      leasesOf("kea", `${header}${keaLine(1)}${keaLine(2, { state: 1 })}${keaLine(3).slice(0, -4)}`),
    ).toEqual([`10.0.0.1 ${macOf(1)} 0`]);
    const newer = `${header.trimEnd()},pool_id\n${keaLine(1, { lifetime: 0xffffffff }).trimEnd()},0\n`;
    expect(parse("kea", newer)).toEqual({
      leases: [{ mac: macOf(1), ip: "10.0.0.1", expiry: never, hostname: "vm-1" }],
      complete: true,
    });
  });

  it("is no proof of an end behind a line that a crash left half written", () => {
    expect(parse("kea", `${header}${keaLine(1)}10.0.0.2,52:54${keaLine(3)}${keaLine(4)}`)).toMatchObject({
      leases: [{ ip: "10.0.0.1" }, { ip: "10.0.0.4" }],
      complete: false,
    });
    expect(() => parse("kea", header.slice(0, 20))).toThrow("has no header yet");
    expect(() => parse("kea", "a,b\n")).toThrow("is not a lease file of Kea");
  });
});

it("tells the formats by how a file begins", () => {
  const of = (text: string): string | undefined => detectFormat(text)?.name;
  expect([of("[]"), of("null\n"), of('[\n {"mac"')]).toEqual(["cocoon", "cocoon", "cocoon"]);
  expect([of(header), of(header + keaLine(1))]).toEqual(["kea", "kea"]);
  expect([of(dnsmasqLine(1)), of("duid 00:01\n")]).toEqual(["dnsmasq", "dnsmasq"]);
  expect([of(""), of("{"), of(header.slice(0, -1)), of(dnsmasqLine(1).slice(0, 30))]).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

it("reads no lease that is not in the file out of any part of one", () => {
  const whole = { dnsmasq: dnsmasqLine(1) + dnsmasqLine(2), kea: header + keaLine(1) + keaLine(2) };
  fc.assert(
    fc.property(fc.constantFrom("dnsmasq", "kea"), fc.nat(400), (name, length) => {
      const text = whole[name];
      const part = text.slice(0, length);
      const all = leasesOf(name, text);
      let found: string[] = [];
      try {
        found = leasesOf(name, part);
      } catch {
        // Nothing was found at all.
      }
      expect(all.slice(0, found.length)).toEqual(found);
      if (name === "dnsmasq" && length < text.length && !part.endsWith("\n")) {
        expect(found.length).toBeLessThan(all.length);
      }
    }),
  );
});

describe("following", () => {
  async function follow(name: LeaseFileFormatName): Promise<{ path: string; seen: FollowedLeases[] }> {
    const path = join(await scratchDirectory(), "leases");
    const end = new AbortController();
    const seen: FollowedLeases[] = [];
    const done = (async () => {
      const options = { signal: end.signal, pollMs: 50, format: leaseFileFormat(name) };
      for await (const leases of followLeasesFile(path, options)) seen.push(leases);
    })();
    onTestFinished(async () => {
      end.abort();
      await done;
    });
    return { path, seen };
  }
  /** Of what has come since it was called last: a busy machine may show us something when it is past. */
  const shown = new WeakMap<FollowedLeases[], number>();
  const sees = (seen: FollowedLeases[], complete: boolean, ...indices: number[]): Promise<void> => {
    const addresses = indices.map((index) => `10.0.0.${index}`).join();
    const isIt = (one: FollowedLeases): boolean =>
      one.complete === complete && one.leases.map(({ ip }) => ip).join() === addresses;
    return until(() => {
      const from = shown.get(seen) ?? 0;
      const at = seen.slice(from).findIndex(isIt);
      if (at >= 0) shown.set(seen, from + at + 1);
      return at >= 0;
    }, `leases ${indices}, complete: ${complete}`);
  };

  it("takes a lease from dnsmasq at once, an end only from a file that has stayed the same", async () => {
    const { path, seen } = await follow("dnsmasq");
    await writeFile(path, dnsmasqLine(1) + dnsmasqLine(2));
    await sees(seen, true, 1, 2);
    expect(seen[0]?.complete).toBe(false);
    // As dnsmasq writes: the file is emptied and filled again, and somebody looks in between.
    await truncate(path);
    await sees(seen, false);
    await appendFile(path, dnsmasqLine(2));
    await sees(seen, false, 2);
    await appendFile(path, dnsmasqLine(1) + dnsmasqLine(3));
    await sees(seen, false, 2, 1, 3);
    await sees(seen, true, 2, 1, 3);
  });

  it("loses no lease while Kea's clean-up moves its files", async () => {
    const { path, seen } = await follow("kea");
    await writeFile(path, header + keaLine(1) + keaLine(2));
    await sees(seen, true, 1, 2);
    await rename(path, `${path}.1`);
    await writeFile(path, "");
    await writeFile(path, header);
    await writeFile(`${path}.output`, header + keaLine(1) + keaLine(2));
    await appendFile(path, keaLine(3));
    await sees(seen, true, 1, 2, 3);
    await rename(`${path}.output`, `${path}.completed`);
    await rm(`${path}.1`);
    await rename(`${path}.completed`, `${path}.2`);
    await appendFile(path, keaLine(2, { lifetime: 0 }));
    await sees(seen, true, 1, 3);
    const first = seen.flatMap(({ leases }) => leases.filter(({ ip }) => ip === "10.0.0.1"));
    expect(first).toHaveLength(seen.length);
  });
});
