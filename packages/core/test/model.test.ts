import {
  CorruptError,
  clusterConfigSchema,
  decode,
  encode,
  eventSchema,
  incarnationSchema,
  leaseSchema,
  nodeSchema,
  quarantineSchema,
  type RecordSchema,
  slotSchema,
} from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const config = { parentCIDR: "172.20.0.0/16", nodePrefix: 24, platform: "gke", clusterUID: "c-1", schema: 1 };
const node = {
  uid: "i-1",
  status: "ready",
  lastSeen: "2026-11-02T10:00:00.000Z",
  subnet: "172.20.100.0/24",
  eniIDs: ["eni-1"],
  agentVersion: "1.2.3",
  pool: { size: 140, leased: 3, free: 137 },
};
const records: readonly [string, RecordSchema<unknown>, Record<string, unknown>][] = [
  [
    "config",
    clusterConfigSchema,
    { ...config, reserved: [], leaseMs: 1, quarantineMs: 0, reclaimAfterMs: 0, recoveryMs: 1 },
  ],
  [
    "incarnation",
    incarnationSchema,
    { id: "1", current: "redis-1", recovering: false, since: "2026-11-02T10:00:00Z" },
  ],
  ["slot", slotSchema, { node: "n1", uid: "i-1" }],
  ["node", nodeSchema, node],
  ["lease", leaseSchema, { node: "n1", mac: "02:00:00:00:00:01", expiry: "2026-11-02T10:00:00Z", seq: 4 }],
  [
    "quarantine",
    quarantineSchema,
    {
      node: "n1",
      uid: "i-1",
      from: "2026-11-02T10:00:00Z",
      until: "2026-11-02T10:10:00Z",
      reason: "instance gone",
      fenced: true,
    },
  ],
  [
    "event",
    eventSchema,
    { time: "2026-11-02T10:00:00Z", type: "registered", message: "n1 got 172.20.100.0/24" },
  ],
];

function read<T>(schema: RecordSchema<T>, record: unknown): T {
  return decode(schema, { key: "some/key", value: JSON.stringify(record) });
}

function failure(schema: RecordSchema<unknown>, value: string): CorruptError {
  try {
    decode(schema, { key: "nodes/n1", value });
  } catch (error) {
    if (error instanceof CorruptError) return error;
    throw error;
  }
  return expect.unreachable(`${value} was accepted`);
}

describe.each(records)("a %s record", (_name, schema, record) => {
  it("survives decode and encode unchanged", () => {
    expect(JSON.parse(encode(read(schema, record)))).toEqual(record);
  });

  // Catalogue 30. Guard: packages/core/src/record-schema.ts, readFields: fields that are not known are kept.
  it("keeps the fields of a newer version when it is rewritten", () => {
    const known = new Set([...Object.keys(record), "__proto__"]);
    const optional = [
      "instanceID",
      "platform",
      "subnetID",
      "zone",
      "maxLeaseEnd",
      "leaseSource",
      "ended",
      "intent",
      "vmID",
      "hostname",
    ];
    const name = fc
      .string()
      .filter((key) => !known.has(key) && !["node", "subnet", "pool", ...optional].includes(key));
    fc.assert(
      fc.property(fc.dictionary(name, fc.jsonValue(), { noNullPrototype: true }), (extra) => {
        const stored = JSON.parse(JSON.stringify({ ...extra, ...record }));
        const rewritten = encode({ ...(read(schema, stored) as object), touched: true });
        expect(JSON.parse(rewritten)).toEqual({ ...stored, touched: true });
      }),
    );
  });

  it("is corrupt without any one of its required fields, and says which", () => {
    const defaulted = new Set([
      "reserved",
      "leaseMs",
      "quarantineMs",
      "reclaimAfterMs",
      "recoveryMs",
      "eniIDs",
      "agentVersion",
      "pool",
    ]);
    for (const field of Object.keys(record).filter((key) => !defaulted.has(key))) {
      const { [field]: _, ...rest } = record;
      expect(failure(schema, JSON.stringify(rest)).message).toMatch(new RegExp(`^nodes/n1: ${field}: `));
    }
  });
});

describe("defaults", () => {
  it("of a config are a day, ten minutes and five", () => {
    expect(read(clusterConfigSchema, config)).toMatchObject({
      reserved: [],
      leaseMs: 86_400_000,
      quarantineMs: 600_000,
      reclaimAfterMs: 300_000,
    });
  });

  it("of a node are no ENIs and an unknown agent", () => {
    const { eniIDs: _ids, agentVersion: _version, pool: _pool, ...older } = node;
    const decoded = read(nodeSchema, older);
    expect(decoded).toMatchObject({ eniIDs: [], agentVersion: "unknown" });
    expect("pool" in decoded).toBe(false);
  });
});

describe("decode", () => {
  it("keeps unknown fields also inside pool use", () => {
    const pool = { size: 1, leased: 0, free: 0, cooling: 1 };
    expect(read(nodeSchema, { ...node, pool }).pool).toEqual(pool);
  });

  it("names the key of a value that is not JSON", () => {
    expect(failure(nodeSchema, "{oops").message).toBe("the value of nodes/n1 is not JSON");
    expect(failure(nodeSchema, "{oops").cause).toBeInstanceOf(SyntaxError);
    expect(failure(nodeSchema, "").message).toBe("the value of nodes/n1 is not JSON");
  });

  it("names the field, also a nested one, and says what was wrong", () => {
    expect(failure(nodeSchema, "null").message).toMatch(/^nodes\/n1: value: .*object/);
    expect(failure(nodeSchema, JSON.stringify({ ...node, status: "zombie" })).message).toMatch(
      /^nodes\/n1: status: .*"ready"/,
    );
    expect(
      failure(nodeSchema, JSON.stringify({ ...node, pool: { size: 1, leased: "x", free: 0 } })).message,
    ).toMatch(/^nodes\/n1: pool\.leased: .*number/);
    expect(failure(nodeSchema, JSON.stringify({ ...node, eniIDs: ["a", 7] })).message).toMatch(
      /^nodes\/n1: eniIDs\.1: .*string/,
    );
  });

  it.each(["172.20.0.0", "172.20.0.0/33", "300.20.0.0/16", "172.20.0.1/16", "::/0"])(
    "calls the block %s corrupt, so that nobody computes with it",
    (parentCIDR) => {
      const error = failure(clusterConfigSchema, JSON.stringify({ ...config, parentCIDR }));
      expect(error.message).toContain(`nodes/n1: parentCIDR: block "${parentCIDR}"`);
      expect(error.code).toBe("corrupt");
    },
  );

  it("refuses times that are not UTC and a schema of the future", () => {
    expect(
      failure(nodeSchema, JSON.stringify({ ...node, lastSeen: "2026-11-02T10:00:00+08:00" })).message,
    ).toContain("lastSeen");
    expect(failure(clusterConfigSchema, JSON.stringify({ ...config, schema: 2 })).message).toContain(
      "schema",
    );
  });
});
