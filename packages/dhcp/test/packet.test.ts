import { type DhcpPacket, decodePacket, encodePacket, noFile, noSname, readRequest } from "@cocoon-net/dhcp";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { macOf, wire } from "./client-messages.ts";

const uint32 = fc.integer({ min: 0, max: 0xffffffff });
const byte = fc.integer({ min: 0, max: 255 });
const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });
const options = fc
  .uniqueArray(
    fc.tuple(
      fc.integer({ min: 1, max: 254 }).filter((code) => code !== 52),
      fc.uint8Array({ maxLength: 600 }),
    ),
    { selector: ([code]) => code, maxLength: 12 },
  )
  .map((entries) => new Map(entries));
const packets: fc.Arbitrary<DhcpPacket> = fc.record({
  op: byte,
  htype: byte,
  hlen: byte,
  hops: byte,
  xid: uint32,
  secs: fc.integer({ min: 0, max: 0xffff }),
  flags: fc.integer({ min: 0, max: 0xffff }),
  ciaddr: uint32,
  yiaddr: uint32,
  siaddr: uint32,
  giaddr: uint32,
  chaddr: bytes(16),
  sname: bytes(64),
  file: bytes(128),
  options,
});

/** A real DISCOVER with bytes changed, so that mutations reach past the header checks. */
const mangled = fc
  .array(fc.tuple(fc.nat({ max: 320 }), byte), { maxLength: 12 })
  .map((changes) => {
    const packet = wire({ type: "discover", mac: macOf(1), requested: "10.0.0.2", hostname: "guest" });
    for (const [at, value] of changes) if (at < 236 || at > 239) packet[at] = value;
    return packet;
  })
  .chain((packet) => fc.integer({ min: 0, max: packet.length }).map((length) => packet.subarray(0, length)));

function withOptions(...field: number[]): Uint8Array {
  const packet = wire({ type: "discover", mac: macOf(1) });
  packet.fill(0, 240);
  packet.set(field, 240);
  return packet;
}

describe("codec", () => {
  it("decodes what it encodes, long options included", () => {
    fc.assert(
      fc.property(packets, (packet) => {
        const decoded = decodePacket(encodePacket(packet));
        if (!decoded.ok) throw new Error(decoded.reason);
        const { options, ...header } = packet;
        expect(decoded.packet).toMatchObject(header);
        expect([...decoded.packet.options]).toEqual([...options]);
        expect([...decoded.packet.options.values()]).toEqual([...options.values()]);
      }),
    );
  });

  it("never throws, whatever comes", () => {
    const read = (input: Uint8Array): void => {
      const decoded = decodePacket(input);
      if (decoded.ok) readRequest(decoded.packet);
    };
    fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 1500 }), mangled), read), { numRuns: 2000 });
    read(new Uint8Array(1500).fill(255));
    read(new Uint8Array(1500));
  });

  it("joins the pieces of a long option in order (RFC 3396)", () => {
    const decoded = decodePacket(withOptions(12, 2, 97, 98, 53, 1, 1, 12, 1, 99, 255));
    expect(decoded.ok && decoded.packet.options.get(12)).toEqual(Uint8Array.of(97, 98, 99));
  });

  it("reads options that overflow into file and sname, file first (option 52)", () => {
    const packet = withOptions(53, 1, 1, 52, 1, 3, 12, 1, 97, 255);
    packet.set([12, 1, 98, 255], 108);
    packet.set([12, 1, 99, 255], 44);
    const decoded = decodePacket(packet);
    expect(decoded.ok && decoded.packet.options.get(12)).toEqual(Uint8Array.of(97, 98, 99));
    expect(decoded.ok && decoded.packet.options.has(52)).toBe(false);
    expect(decoded.ok && [decoded.packet.sname, decoded.packet.file]).toEqual([noSname, noFile]);
  });

  it.each([
    ["too-short", wire({ type: "discover", mac: macOf(1) }).subarray(0, 239)],
    ["wrong-magic", new Uint8Array(300)],
    ["option-overrun", withOptions(53, 1, 1, 12, 200)],
    ["option-overrun", withOptions(53, 1, 1, 52, 1, 1, 255).fill(200, 108, 236)],
    ["bad-overload", withOptions(53, 1, 1, 52, 1, 4, 255)],
    ["bad-overload", withOptions(53, 1, 1, 52, 2, 1, 1, 255)],
  ])("says %s", (reason, input) => {
    expect(decodePacket(input)).toEqual({ ok: false, reason });
  });

  it.each([
    ["not-a-request", (packet: Uint8Array) => packet.fill(2, 0, 1)],
    ["wrong-hardware", (packet: Uint8Array) => packet.fill(6, 1, 2)],
    ["wrong-hardware", (packet: Uint8Array) => packet.fill(16, 2, 3)],
    ["wrong-hardware", (packet: Uint8Array) => packet.fill(0xff, 28, 34)],
    ["wrong-hardware", (packet: Uint8Array) => packet.fill(0, 28, 34)],
    ["no-message-type", (packet: Uint8Array) => packet.fill(0, 240)],
    ["not-from-a-client", (packet: Uint8Array) => packet.fill(5, 242, 243)],
    ["bad-option", (packet: Uint8Array) => packet.fill(0, 240).fill(53, 240, 241)],
  ])("says %s of a packet that no server answers", (reason, change) => {
    const packet = wire({ type: "discover", mac: macOf(1) });
    change(packet);
    const decoded = decodePacket(packet);
    expect(decoded.ok && readRequest(decoded.packet)).toBe(reason);
  });

  it("refuses an address option that is not four bytes", () => {
    const decoded = decodePacket(withOptions(53, 1, 3, 50, 3, 10, 0, 0, 255));
    expect(decoded.ok && readRequest(decoded.packet)).toBe("bad-option");
  });

  it("takes a host name with its terminating NUL, and none that is not printable", () => {
    const name = (...value: number[]): unknown => {
      const decoded = decodePacket(withOptions(53, 1, 1, 12, value.length, ...value, 255));
      const request = decoded.ok ? readRequest(decoded.packet) : undefined;
      return typeof request === "object" ? request.hostname : request;
    };
    expect(name(103, 49, 0)).toBe("g1");
    expect(name(103, 10, 49)).toBeUndefined();
    expect(name()).toBeUndefined();
  });
});
