import {
  CorruptError,
  formatAddress,
  InvalidError,
  keys,
  type LeaseRecord,
  LeaseTable,
} from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const hex = fc.integer({ min: 0, max: 255 }).map((byte) => byte.toString(16).padStart(2, "0"));
const mac = fc.array(hex, { minLength: 6, maxLength: 6 }).map((bytes) => bytes.join(":"));
const time = fc
  .date({ min: new Date(0), max: new Date("2100-01-01"), noInvalidDate: true })
  .map((date) => date.toISOString());
const lease: fc.Arbitrary<LeaseRecord> = fc.record(
  {
    node: fc.constantFrom("n1", "n2", "n3"),
    mac: fc.oneof(
      mac,
      mac.map((text) => text.toUpperCase()),
      fc.string(),
    ),
    expiry: fc.oneof(time, fc.constantFrom("2030-01-01T00:00:00Z", "2030-01-01T00:00:00.123456Z")),
    vmID: fc.string(),
    hostname: fc.string(),
    seq: fc.nat(),
  },
  { requiredKeys: ["node", "mac", "expiry", "seq"] },
);
const address = fc.integer({ min: 0, max: 2 ** 32 - 1 }).map(formatAddress);

describe("LeaseTable", () => {
  it("gives back what was put in, in its order", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(address, lease)), (leases) => {
        const table = new LeaseTable();
        for (const [at, record] of leases) table.add(at, record);
        expect(table.size).toBe(leases.length);
        expect([...table]).toEqual(leases);
      }),
    );
  });

  it("reads entries of the store as the model does, however they are written", () => {
    const entry = fc.tuple(
      address,
      fc.oneof(lease, fc.record({ ...{ node: fc.string(), mac, expiry: time, seq: fc.nat() } })),
    );
    fc.assert(
      fc.property(fc.array(entry), fc.boolean(), (leases, isSpaced) => {
        const table = new LeaseTable();
        for (const [at, record] of leases) {
          table.addEntry({ key: keys.pool(at), value: JSON.stringify(record, null, isSpaced ? 1 : 0) });
        }
        expect([...table]).toEqual(leases);
      }),
    );
  });

  it("refuses entries as the model does", () => {
    const good = { node: "n1", mac: "52:54:00:00:00:01", expiry: "2030-01-01T00:00:00.000Z", seq: 1 };
    const table = new LeaseTable();
    for (const wrong of [
      { expiry: "2030-13-01T00:00:00.000Z" },
      { seq: -1 },
      { node: 1 },
      { expiry: "soon" },
    ]) {
      const value = JSON.stringify({ ...good, ...wrong });
      expect(() => table.addEntry({ key: "pool/10.0.0.1", value }), value).toThrow(CorruptError);
    }
    expect(() => table.addEntry({ key: "pool/10.0.0", value: JSON.stringify(good) })).toThrow(InvalidError);
    expect(table.size).toBe(0);
  });

  it("takes a whole /16", () => {
    const table = new LeaseTable();
    const record = { node: "n1", mac: "52:54:00:00:00:01", expiry: "2030-01-01T00:00:00.000Z" };
    for (let seq = 0; seq < 65_536; seq++) table.add(formatAddress(0xac140000 + seq), { ...record, seq });
    let rows = 0;
    for (const [at, { seq }] of table) {
      if (at !== formatAddress(0xac140000 + seq) || seq !== rows) expect.fail(`row ${rows} is ${at}, ${seq}`);
      rows += 1;
    }
    expect(rows).toBe(65_536);
  });
});
