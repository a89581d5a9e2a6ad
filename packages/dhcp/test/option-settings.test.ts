import { InvalidError } from "@cocoon-net/core";
import { encodeOptions, type OptionSettings, parseOptionSettings, parseRawOption } from "@cocoon-net/dhcp";
import { describe, expect, it } from "vitest";

const hexOf = (settings: OptionSettings): Record<string, string> =>
  Object.fromEntries(
    [...encodeOptions(settings, "options").values].map(([code, value]) => [
      code,
      Buffer.from(value).toString("hex"),
    ]),
  );

describe("options", () => {
  it("are encoded as their RFCs say", () => {
    expect(
      hexOf({
        subnetMask: "255.255.255.255",
        routers: ["10.0.0.1", "10.0.0.2"],
        dns: [],
        hostname: "vm-1",
        domain: "example.org.",
        mtu: 1450,
        ntp: ["10.0.0.3"],
        tftpServer: "10.0.0.4",
        bootFile: "pxelinux.0",
      }),
    ).toEqual({
      "1": "ffffffff",
      "3": "0a0000010a000002",
      "6": "",
      "12": Buffer.from("vm-1").toString("hex"),
      "15": Buffer.from("example.org").toString("hex"),
      "26": "05aa",
      "42": "0a000003",
      "66": Buffer.from("10.0.0.4").toString("hex"),
      "67": Buffer.from("pxelinux.0").toString("hex"),
    });
  });

  it("119: the examples of RFC 3397 and RFC 1035, later names pointing into earlier ones", () => {
    const { "119": search = "" } = hexOf({ searchDomains: ["eng.apple.com.", "marketing.apple.com."] });
    const expected = Buffer.concat([
      Buffer.from("\x03eng\x05apple\x03com\0", "latin1"),
      Buffer.from("\x09marketing\xc0\x04", "latin1"),
    ]);
    expect(search).toBe(expected.toString("hex"));
  });

  it("121: the examples of RFC 3442", () => {
    const via = "10.0.0.1";
    const to = [
      "0.0.0.0/0",
      "10.0.0.0/8",
      "10.17.0.0/16",
      "10.27.129.0/24",
      "10.229.0.128/25",
      "10.198.122.47/32",
    ];
    expect(hexOf({ routes: to.map((one) => ({ to: one, via })) })["121"]).toBe(
      ["00", "080a", "100a11", "180a1b81", "190ae50080", "200ac67a2f"]
        .map((one) => `${one}0a000001`)
        .join(""),
    );
  });

  it("raw: hex, string, ip", () => {
    const raw = { "43": "hex 01:04 c0a80101", "60": "string PXEClient", "150": "ip 10.0.0.1, 10.0.0.2" };
    expect(hexOf({ raw })).toEqual({
      "43": "0104c0a80101",
      "60": Buffer.from("PXEClient").toString("hex"),
      "150": "0a0000010a000002",
    });
    expect(parseRawOption("43 = hex 01:02")).toEqual({ code: "43", value: "hex 01:02" });
  });

  it.each([
    [{ mtu: 20 }, "subnet x: mtu is 20; it must be a whole number from 68 to 65535"],
    [{ mtu: "1500" }, "subnet x: mtu is 1500; it must be a whole number from 68 to 65535"],
    [{ dns: "10.0.0.1" }, 'subnet x: dns is "10.0.0.1"; it must be a list'],
    [{ dns: ["10.0.0"] }, 'subnet x: dns "10.0.0" is not an IPv4 address like 10.0.0.1'],
    [{ hostname: "-a" }, 'subnet x: hostname "-a" is not a domain name'],
    [{ searchDomains: ["a..b"] }, 'subnet x: searchDomains "a..b" is not a domain name'],
    [{ routes: [{ to: "10.0.0.1/8", via: "10.0.0.1" }] }, "did you mean 10.0.0.0/8?"],
    [{ routes: [{ to: "10.0.0.0/8" }] }, "subnet x: routes: via is undefined; it must be a text"],
    [{ bootFile: "ä" }, "subnet x: bootFile must be 1 to 255 printable ASCII characters"],
    [{ renewMs: 5000, rebindMs: 4000 }, "subnet x: renewMs 5000 is more than rebindMs 4000"],
    [{ nextServer: "tftp" }, 'subnet x: nextServer "tftp" is not an IPv4 address'],
    [{ dnsServers: [] }, 'subnet x: there is no setting "dnsServers"'],
    [{ constructor: 1 }, 'subnet x: there is no setting "constructor"'],
    [{ raw: { "6": "ip 10.0.0.1" } }, "subnet x: option 6 is set by dns"],
    [{ raw: { "54": "ip 10.0.0.1" } }, "subnet x: option 54 is set by the server itself"],
    [{ raw: { "256": "hex 00" } }, "subnet x: option 256: the number of an option is 1 to 254"],
    [{ raw: { "43": "0102" } }, 'subnet x: option 43 is "0102"; it must be hex …, string … or ip …'],
    [{ raw: { "43": "hex 012" } }, 'subnet x: option 43: "012" is not hex like 01:02:ff'],
    [[], "subnet x is []; it must be a mapping"],
    [null, "subnet x is null; it must be a mapping"],
  ])("refuses %j in one clear line", (settings, message) => {
    expect(() => parseOptionSettings(settings, "subnet x")).toThrow(InvalidError);
    expect(() => parseOptionSettings(settings, "subnet x")).toThrow(message);
  });

  it("refuses an assignment that is none", () => {
    expect(() => parseRawOption("hex 01")).toThrow('option "hex 01" is not like 43=hex 01:02');
    expect(() => parseRawOption("53=hex 01")).toThrow("option 53 is set by the server itself");
  });
});
