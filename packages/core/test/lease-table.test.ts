import { formatAddress, type LeaseRecord, LeaseTable } from "@cocoon-net/core";
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
