import { parseAddress } from "@cocoon-net/core";
import {
  type Answer,
  buildReply,
  type DhcpPacket,
  decodePacket,
  type EngineOptions,
  LeaseEngine,
  type OptionSettings,
} from "@cocoon-net/dhcp";
import { describe, expect, it } from "vitest";
import { type Message, macOf, optionsWithPool, request, wire } from "./client-messages.ts";

const mac = macOf(1);
const offer: Answer = { type: "offer", address: parseAddress("10.0.0.2"), leaseMs: 86_400_000 };

interface Heard {
  readonly packet: DhcpPacket;
  readonly size: number;
  readonly hex: Record<string, string>;
  /** Option 52 as on the wire. */
  readonly overload: number | undefined;
}

/** What a client hears, read by the decoder. */
function hear(
  options: OptionSettings,
  message: Partial<Message> = {},
  answer: Answer = offer,
  engine: Partial<EngineOptions> = {},
): Heard {
  const decoded = decodePacket(wire({ type: "discover", mac, ...message }));
  if (!decoded.ok) throw new Error(decoded.reason);
  const parameters = new LeaseEngine(optionsWithPool(9, { options, ...engine })).parametersFor(
    request({ type: "discover", mac, ...message }),
  );
  const { bytes } = buildReply(decoded.packet, answer, parameters);
  const reply = decodePacket(bytes);
  if (!reply.ok) throw new Error(reply.reason);
  const hex = [...reply.packet.options].map(([code, value]) => [code, Buffer.from(value).toString("hex")]);
  const at = bytes.findIndex((byte, index) => index > 240 && byte === 52 && bytes[index + 1] === 1);
  return {
    packet: reply.packet,
    size: bytes.length,
    hex: Object.fromEntries(hex),
    overload: at < 0 ? undefined : bytes[at + 2],
  };
}

const text = (field: Uint8Array): string => Buffer.from(field).toString("latin1").replace(/\0+$/, "");
const seconds = (value: number): string => value.toString(16).padStart(8, "0");

describe("a reply", () => {
  it("carries what is set for the subnet, over the defaults", () => {
    const { hex, packet } = hear({ routers: ["10.0.0.9"], dns: [], mtu: 1450, nextServer: "10.0.0.8" });
    expect(hex).toMatchObject({ "1": "ffffff00", "3": "0a000009", "26": "05aa", "54": "0a000001" });
    expect(hex).not.toHaveProperty("6");
    expect(packet.siaddr).toBe(parseAddress("10.0.0.8"));
  });

  it("names T1 and T2, and keeps them inside a lease that is shorter than they are", () => {
    const settings = { renewMs: 3_600_000, rebindMs: 7_200_000 };
    expect(hear(settings).hex).toMatchObject({
      "51": seconds(86_400),
      "58": seconds(3600),
      "59": seconds(7200),
    });
    const short: Answer = { type: "ack", address: parseAddress("10.0.0.2"), leaseMs: 1000_000 };
    expect(hear(settings, {}, short).hex).toMatchObject({
      "51": seconds(1000),
      "58": seconds(500),
      "59": seconds(875),
    });
  });

  it("adds the default route to classless routes, for they make clients ignore option 3 (RFC 3442)", () => {
    const routes = [{ to: "10.8.0.0/16", via: "10.0.0.3" }];
    expect(hear({ routes }).hex["121"]).toBe("100a080a00000300" + "0a000001");
    expect(hear({ routes, routers: [] }).hex["121"]).toBe("100a080a000003");
    const own = [{ to: "0.0.0.0/0", via: "10.0.0.4" }];
    expect(hear({ routes: own }).hex["121"]).toBe("000a000004");
  });

  it("tells a boot ROM its server and file, in the fields too", () => {
    const { hex, packet } = hear({
      tftpServer: "boot.example",
      bootFile: "pxelinux.0",
      nextServer: "10.0.0.7",
    });
    expect(hex["67"]).toBe(Buffer.from("pxelinux.0").toString("hex"));
    expect([text(packet.sname), text(packet.file)]).toEqual(["boot.example", "pxelinux.0"]);
  });

  it("puts what does not fit into file and sname (option 52), and leaves the rest out", () => {
    const sizes = { "43": 120, "124": 50, "125": 100, "126": 55, "127": 200 };
    const raw = Object.fromEntries(
      Object.entries(sizes).map(([code, length]) => [code, `hex ${"ab".repeat(length)}`]),
    );
    const { overload, packet, size } = hear({ raw, bootFile: "pxelinux.0", domain: "d".repeat(60) });
    expect(size).toBeLessThanOrEqual(548);
    expect(overload).toBe(3);
    const codes = [1, 3, 6, 15, 43, 51, 53, 54, 58, 59, 67, 124, 125, 126];
    expect([...packet.options.keys()].toSorted((one, other) => one - other)).toEqual(codes);
    expect([packet.options.get(125)?.length, packet.options.get(126)?.length]).toEqual([100, 55]);
    // With room, nothing is moved.
    const roomy = hear({ raw, bootFile: "pxelinux.0" }, { options: new Map([[57, Uint8Array.of(5, 220)]]) });
    expect(roomy.overload).toBeUndefined();
    expect(text(roomy.packet.file)).toBe("pxelinux.0");
  });

  it("splits an option of more than 255 bytes (RFC 3396)", () => {
    const large = new Map([[57, Uint8Array.of(5, 220)]]);
    const { hex } = hear({ raw: { "43": `hex ${"ab".repeat(300)}` } }, { options: large });
    expect(hex["43"]).toBe("ab".repeat(300));
  });

  it("never exceeds the least that every client takes when option 57 says less, or nonsense", () => {
    const raw = { "43": `hex ${"ab".repeat(400)}` };
    for (const value of [[0, 0], [1, 0], [5], [1, 2, 3], [255, 255]]) {
      const { size } = hear({ raw }, { options: new Map([[57, Uint8Array.from(value)]]) });
      expect(size).toBeLessThanOrEqual(value[0] === 255 ? 1472 : 548);
    }
  });

  it("returns the client identifier, option 118 and, last, the relay's option 82", () => {
    const options = new Map([
      [82, Uint8Array.of(1, 2, 3, 4)],
      [118, Uint8Array.of(10, 0, 0, 0)],
    ]);
    const message = { clientID: "ff0102", giaddr: "10.0.0.77", options };
    const { hex, packet } = hear({}, message);
    expect(hex).toMatchObject({ "61": "ff0102", "118": "0a000000", "82": "01020304" });
    expect([...packet.options.keys()].at(-1)).toBe(82);
  });

  it("returns no client identifier that is none, and no option 82 that the relay could not have sent", () => {
    const options = new Map([
      [61, Uint8Array.of(1)],
      [82, new Uint8Array(600)],
    ]);
    const { packet, size } = hear({}, { options });
    expect([packet.options.has(61), packet.options.has(82)]).toEqual([false, false]);
    expect(size).toBeLessThanOrEqual(548);
  });

  it("to a DISCOVER that is an ACK says so (RFC 4039)", () => {
    const ack: Answer = { type: "ack", address: parseAddress("10.0.0.2"), leaseMs: 60_000 };
    expect(hear({}, { options: new Map([[80, new Uint8Array(0)]]) }, ack).hex["80"]).toBe("");
    expect(hear({}, { type: "request" }, ack).hex).not.toHaveProperty("80");
  });

  it("to INFORM carries no times", () => {
    const answer: Answer = { type: "inform-ack", address: parseAddress("10.0.0.77") };
    const { hex, packet } = hear({ renewMs: 1000 }, { type: "inform", ciaddr: "10.0.0.77" }, answer);
    for (const code of ["51", "58", "59"]) expect(hex).not.toHaveProperty(code);
    expect([packet.yiaddr, packet.ciaddr]).toEqual([0, parseAddress("10.0.0.77")]);
  });

  it("that is a NAK carries nothing that a client could use", () => {
    const { hex, packet } = hear(
      { bootFile: "x", nextServer: "10.0.0.8" },
      {},
      { type: "nak", reason: "moved" },
    );
    expect(Object.keys(hex)).toEqual(["53", "54", "56"]);
    expect([packet.yiaddr, packet.siaddr, packet.ciaddr, text(packet.file)]).toEqual([0, 0, 0, ""]);
  });

  it("for a reservation carries its settings over the subnet's", () => {
    const reservations = [{ mac, options: { hostname: "db-1", mtu: 9000 } }];
    const { hex } = hear({ mtu: 1450, domain: "example" }, {}, offer, { reservations });
    expect(hex).toMatchObject({ "12": Buffer.from("db-1").toString("hex"), "26": "2328" });
    expect(hex["15"]).toBe(Buffer.from("example").toString("hex"));
    expect(hear({ mtu: 1450 }, { mac: macOf(2) }, offer, { reservations }).hex["26"]).toBe("05aa");
  });
});
