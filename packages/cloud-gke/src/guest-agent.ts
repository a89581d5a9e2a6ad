import { formatCidr, parseCidr } from "@cocoon-net/core";

/** What a host needs so that Google's guest agent does not take the VMs' addresses for its own. */
export interface GuestAgentFixes {
  /** To be deleted: the agent makes the kernel claim every alias range as local, which black-holes the VMs. */
  readonly localRoutes: readonly {
    readonly destination: string;
    readonly device: string;
    readonly table: "local";
  }[];
  /** To be written: deletes those routes again after a boot, as the predecessor has it. */
  readonly files: readonly { readonly path: string; readonly mode: number; readonly content: string }[];
  /** Lines for a warning: how the agent is told to leave alias ranges alone, for good. */
  readonly advice: readonly string[];
}

/** @param nic the host's name for nic0, e.g. `ens4` @throws {InvalidError} on a malformed subnet */
export function guestAgentFixes(subnet: string, nic: string): GuestAgentFixes {
  const destination = formatCidr(parseCidr(subnet, "subnet"));
  const command = `ip route del local ${destination} dev ${nic} table local 2>/dev/null || true`;
  return {
    localRoutes: [{ destination, device: nic, table: "local" }],
    files: [
      {
        path: "/etc/cron.d/cocoon-net-fix-alias",
        mode: 0o644,
        content: `@reboot root ${command}\n`,
      },
    ],
    advice: [
      "set `ip_aliases = false` under [IpForwarding] in /etc/default/instance_configs.cfg",
      "restart google-guest-agent.service",
    ],
  };
}
