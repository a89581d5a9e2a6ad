import { type BridgePorts, FloodGuard } from "@cocoon-net/dhcp";
import { describe, expect, it } from "vitest";
import { macOf, request } from "./client-messages.ts";

const second = 1000;

/** Sends `count` messages evenly over `ms`. @returns how many got through */
function flood(count: number, ms: number, send: (index: number, now: number) => string | undefined): number {
  let passed = 0;
  for (let index = 0; index < count; index++) {
    if (send(index, Math.floor((index * ms) / count)) === undefined) passed++;
  }
  return passed;
}

describe("a flood", () => {
  it("of one client gets its burst and its rate through, whatever it holds", () => {
    for (const isKnown of [true, false]) {
      const guard = new FloodGuard({ seed: 1 });
      const passed = flood(10_000, 10 * second, (_, now) => guard.refusal(macOf(1), isKnown, undefined, now));
      expect(passed).toBeGreaterThanOrEqual(65);
      expect(passed).toBeLessThanOrEqual(71);
      expect(guard.refusal(macOf(1), isKnown, undefined, 10 * second - 1)).toBe("flood-client");
      expect(guard.refusal(macOf(2), isKnown, undefined, 10 * second - 1)).toBeUndefined();
    }
  });

  it("is limited by what was configured last, and by nothing of before", () => {
    const guard = new FloodGuard({ seed: 1 });
    const burst = (now: number): number => flood(100, 1, () => guard.refusal(macOf(1), true, undefined, now));
    expect(burst(0)).toBe(20);
    guard.configure({ perClient: { perSecond: 0.001, burst: 2 } });
    expect(burst(1)).toBe(2);
    guard.configure({});
    expect(burst(2)).toBe(20);
  });

  it("of made-up MACs behind one port leaves other ports, and those who hold something, alone", () => {
    const guard = new FloodGuard({ seed: 1 });
    let refused = 0;
    const passed = flood(100_000, 10 * second, (index, now) => {
      if (index % 1000 === 0) {
        // A guest that starts, and one that renews from behind the flooding port.
        const other = guard.refusal(macOf(index), false, `p${index}`, now);
        const holder = guard.refusal(macOf(7), true, undefined, now);
        if (other !== undefined || (holder !== undefined && index % 20_000 === 0)) refused++;
      }
      return guard.refusal(macOf(1_000_000 + index), false, "p-flood", now);
    });
    expect(refused).toBe(0);
    expect(passed).toBeGreaterThan(600);
    expect(passed).toBeLessThanOrEqual(705);
  });

  it("where ports cannot be told apart is limited as a whole", () => {
    const guard = new FloodGuard({ seed: 1, total: { perSecond: 100, burst: 10 } });
    const passed = flood(50_000, second, (index, now) => guard.refusal(macOf(index), false, undefined, now));
    expect(passed).toBeLessThanOrEqual(110);
    expect(guard.refusal(macOf(99_999), false, undefined, second - 1)).toBe("flood-total");
    expect(guard.refusal(macOf(99_999), true, undefined, second - 1)).toBeUndefined();
  });
});

describe("the port of a client", () => {
  const ports: BridgePorts = { portOf: (mac) => (mac === macOf(1) ? "7" : undefined) };

  it("is the bridge's; clients that no port has share one", () => {
    const guard = new FloodGuard({ ports });
    expect(guard.portOf(request({ type: "discover", mac: macOf(1) }), "0.0.0.0")).toBe("7");
    expect(guard.portOf(request({ type: "discover", mac: macOf(2) }), "0.0.0.0")).toBe("?");
    expect(new FloodGuard().portOf(request({ type: "discover", mac: macOf(1) }), "0.0.0.0")).toBeUndefined();
  });

  it("does not limit what a configured relay forwards; to call oneself a relay does not help", () => {
    const guard = new FloodGuard({ ports, relays: ["10.0.0.9"] });
    const relayed = request({ type: "discover", mac: macOf(2), giaddr: "10.0.0.9" });
    expect(guard.portOf(relayed, "10.0.0.9")).toBeUndefined();
    expect(guard.portOf(relayed, "10.0.0.66")).toBe("?");
    expect(guard.portOf(request({ type: "discover", mac: macOf(2) }), "10.0.0.9")).toBe("?");
  });

  it("is not held against clients when the kernel does not say", () => {
    const failing: BridgePorts = {
      portOf: () => {
        throw new Error("ENODEV");
      },
    };
    const guard = new FloodGuard({ ports: failing });
    expect(guard.portOf(request({ type: "discover", mac: macOf(1) }), "0.0.0.0")).toBeUndefined();
  });
});
