import { InvalidError } from "@cocoon-net/core";
import { describe, expect, it } from "vitest";
import { guestAgentFixes, guestAgentWarning } from "../src/guest-agent.ts";

const block = "172.20.100.0/24";

describe("what the host needs against the guest agent", () => {
  it("is as the predecessor has it", () => {
    const fixes = guestAgentFixes(block, "ens4");
    expect(fixes.localRoutes).toEqual([{ destination: block, device: "ens4", table: "local" }]);
    expect(fixes.files).toEqual([
      {
        path: "/etc/cron.d/cocoon-net-fix-alias",
        mode: 0o644,
        content: "@reboot root ip route del local 172.20.100.0/24 dev ens4 table local 2>/dev/null || true\n",
      },
    ]);
    expect(() => guestAgentFixes("172.20.100.1/24", "ens4")).toThrow(InvalidError);
  });

  it("covers addresses that were moved to the node", () => {
    const fixes = guestAgentFixes(block, "ens4", ["172.20.7.9"]);
    expect(fixes.localRoutes.at(-1)).toEqual({ destination: "172.20.7.9", device: "ens4", table: "local" });
    expect(fixes.files[0]?.content.split("\n")).toHaveLength(3);
  });

  it.each([
    [{ type: "local", dst: block, dev: "ens4" }, true],
    // What an address was moved out of is several aliases, and the agent makes a route for each.
    [{ type: "local", dst: "172.20.100.128/25", dev: "ens4" }, true],
    [{ type: "local", dst: "172.20.100.7", dev: "ens4" }, true],
    [{ type: "local", dst: "172.20.7.9", dev: "ens4" }, true],
    [{ type: "local", dst: "172.20.7.8", dev: "ens4" }, false],
    [{ type: "local", dst: "10.128.0.5", dev: "ens4" }, false],
    [{ type: "local", dst: block, dev: "cni0" }, false],
    // The bridge's own addresses are the kernel's business.
    [{ type: "broadcast", dst: "172.20.100.255", dev: "ens4" }, false],
    [{ type: "local", dst: "fe80::1", dev: "ens4" }, false],
    [{ type: "local", dst: "127.0.0.0/8", dev: "lo" }, false],
  ])("of the routes of the table local, %j is stale: %s", (route, stale) => {
    expect(guestAgentFixes(block, "ens4", ["172.20.7.9"]).isStale(route)).toBe(stale);
  });
});

describe("the guest agent's settings", () => {
  it.each([
    ["", true],
    ["[IpForwarding]\nip_aliases = false\n", false],
    ["[IpForwarding]\nip_aliases = true\n", true],
    ["[ipforwarding]\nip_aliases=No\n", false],
    ["[NetworkInterfaces]\nip_forwarding = false\n", false],
    ["[Daemons]\r\nnetwork_daemon = off\r\n", false],
    ["[Daemons]\nip_aliases = false\n", true],
    ["[IpForwarding]\n# ip_aliases = false\n;ip_aliases = false\n", true],
  ])("%j: it claims aliases: %s", (text, claims) => {
    expect(guestAgentWarning([text]) !== undefined).toBe(claims);
  });

  it("of a later file win", () => {
    const [off, on] = ["[IpForwarding]\nip_aliases = false", "[IpForwarding]\nip_aliases = true"];
    expect(guestAgentWarning([off, undefined, on])).toMatch(
      /ip_aliases = false.*instance_configs.cfg and restart/,
    );
    expect(guestAgentWarning([on, off, undefined])).toBeUndefined();
  });
});
