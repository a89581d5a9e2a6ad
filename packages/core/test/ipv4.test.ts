import {
  blockOf,
  formatAddress,
  formatCidr,
  InvalidError,
  lastOf,
  netmaskOf,
  parseAddress,
  parseCidr,
  sizeOf,
} from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const address = fc.nat({ max: 2 ** 32 - 1 });
const prefix = fc.nat({ max: 32 });

describe("addresses", () => {
  it("survive format and parse", () => {
    fc.assert(fc.property(address, (value) => parseAddress(formatAddress(value)) === value));
  });

  it("are unsigned, also above 127.255.255.255", () => {
    expect(parseAddress("255.255.255.255")).toBe(0xffffffff);
    expect(parseAddress("128.0.0.0")).toBe(0x80000000);
    expect(formatAddress(0xffffffff)).toBe("255.255.255.255");
    expect(formatAddress(0x80000001)).toBe("128.0.0.1");
  });

  it.each([
    "",
    "10.0.0",
    "10.0.0.0.1",
    "10.0.0.256",
    "10.0.0.01",
    "0x0a.0.0.1",
    "10.0.0.1 ",
    "::1",
    "10.0.0.-1",
  ])("refuse %j", (text) => {
    expect(() => parseAddress(text, "gateway")).toThrow(InvalidError);
    expect(() => parseAddress(text, "gateway")).toThrow(`gateway "${text}" is not an IPv4 address`);
  });
});

describe("blocks", () => {
  it("survive format and parse", () => {
    fc.assert(
      fc.property(address, prefix, (value, length) => {
        const block = blockOf(value, length);
        expect(parseCidr(formatCidr(block))).toEqual(block);
      }),
    );
  });

  it("have one spelling: what parses is what is printed", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^10\.0\.0\.0\/\d{1,3}$/), (text) => {
        let parsed: string | undefined;
        try {
          parsed = formatCidr(parseCidr(text));
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidError);
        }
        expect(parsed ?? text).toBe(text);
      }),
    );
  });

  it.each([
    "10.0.0.0",
    "10.0.0.0/",
    "10.0.0.0/33",
    "10.0.0.0/08",
    "10.0.0.0/-1",
    "/24",
    "10.0.0.0/24/24",
    "::/0",
  ])("refuse %j", (text) => {
    expect(() => parseCidr(text, "--subnet")).toThrow(InvalidError);
    expect(() => parseCidr(text, "--subnet")).toThrow(`--subnet "${text}"`);
  });

  it("name the block that was meant when host bits are set", () => {
    expect(() => parseCidr("172.20.100.7/24")).toThrow("did you mean 172.20.100.0/24?");
    expect(() => parseCidr("200.1.2.3/1")).toThrow("did you mean 128.0.0.0/1?");
  });

  it("hold exactly the addresses from base to last", () => {
    fc.assert(
      fc.property(address, prefix, (value, length) => {
        const block = blockOf(value, length);
        expect(block.base).toBeLessThanOrEqual(value);
        expect(lastOf(block)).toBeGreaterThanOrEqual(value);
        expect(lastOf(block) - block.base + 1).toBe(sizeOf(length));
        // Written a second way, with BigInt masks.
        expect(BigInt(block.base)).toBe(BigInt(value) & BigInt(netmaskOf(length)));
      }),
    );
  });

  it("know their netmask at both ends", () => {
    expect(formatAddress(netmaskOf(0))).toBe("0.0.0.0");
    expect(formatAddress(netmaskOf(1))).toBe("128.0.0.0");
    expect(formatAddress(netmaskOf(23))).toBe("255.255.254.0");
    expect(formatAddress(netmaskOf(32))).toBe("255.255.255.255");
  });
});
