import { type Cidr, contains, formatCidr, parseCidr } from "@cocoon-net/core";
import { formatBlock } from "./alias-plan.ts";
import { singles } from "./node-addresses.ts";

/** A route of the kernel's table `local`, as `ip -json route show table local` has it. */
export interface LocalRoute {
  readonly type: string;
  /** `172.20.100.0/24`; a single address without its `/32`. */
  readonly dst: string;
  readonly dev: string;
}

/** What a host needs so that Google's guest agent does not take the VMs' addresses for its own. */
export interface GuestAgentFixes {
  /**
   * Whether a route of the table `local` is one that the agent has made for the node's addresses, and has to go: it
   * black-holes the VMs. To be asked about every route when the node starts and after each change of its aliases
   * ({@link watchAliases}); the agent makes them again, for each alias of its own.
   */
  isStale(route: LocalRoute): boolean;
  /** What deletes the routes that are there when nothing was moved, as the predecessor has it. */
  readonly localRoutes: readonly {
    readonly destination: string;
    readonly device: string;
    readonly table: "local";
  }[];
  /**
   * To be written when the node is set up, and deleted when it is torn down: deletes those routes again after a boot,
   * as the predecessor has it.
   */
  readonly files: readonly { readonly path: string; readonly mode: number; readonly content: string }[];
}

/**
 * @param nic the host's name for nic0, e.g. `ens4`
 * @param movedIn single addresses of other blocks that this node serves
 * @throws {InvalidError} on a malformed subnet or address
 */
export function guestAgentFixes(
  subnet: string,
  nic: string,
  movedIn: readonly string[] = [],
): GuestAgentFixes {
  const blocks = [parseCidr(subnet, "subnet"), ...singles(movedIn)];
  const localRoutes = blocks.map((block, index) => ({
    destination: index === 0 ? formatCidr(block) : formatBlock(block),
    device: nic,
    table: "local" as const,
  }));
  const lines = localRoutes.map(
    ({ destination, device }) =>
      `@reboot root ip route del local ${destination} dev ${device} table local 2>/dev/null || true\n`,
  );
  return {
    isStale({ type, dst, dev }) {
      const block = type === "local" && dev === nic ? blockOf(dst) : undefined;
      return block !== undefined && blocks.some((own) => contains(own, block));
    },
    localRoutes,
    files: [{ path: "/etc/cron.d/cocoon-net-fix-alias", mode: 0o644, content: lines.join("") }],
  };
}

function blockOf(dst: string): Cidr | undefined {
  // Routes of other families are none of ours.
  if (!/^\d+\.\d+\.\d+\.\d+(\/\d+)?$/.test(dst)) return undefined;
  return parseCidr(dst.includes("/") ? dst : `${dst}/32`);
}

/** Where the guest agent reads its settings, in this order; what is read later wins. */
export const guestAgentSettings = [
  "/etc/default/instance_configs.cfg",
  "/etc/default/instance_configs.cfg.distro",
  "/etc/default/instance_configs.cfg.template",
] as const;

/**
 * Why the guest agent makes routes for alias ranges, with what to do, in one line; undefined when it is told not to,
 * so that nothing has to be deleted again and again.
 *
 * @param texts the contents of {@link guestAgentSettings}, in their order; undefined for a file that does not exist
 */
export function guestAgentWarning(texts: readonly (string | undefined)[]): string | undefined {
  const settings = new Map<string, string>();
  for (const text of texts) readSettings(text ?? "", settings);
  const isOff = switches.some((name) => /^(false|f|no|n|off|0)$/i.test(settings.get(name) ?? ""));
  if (isOff) return undefined;
  return (
    "Google's guest agent makes the kernel claim alias ranges, which black-holes VMs each time that it does; " +
    `set \`ip_aliases = false\` under [IpForwarding] in ${guestAgentSettings[0]} and restart google-guest-agent.service`
  );
}

/** Any of them ends it: https://github.com/GoogleCloudPlatform/guest-agent#configuration */
const switches = ["ipforwarding.ip_aliases", "networkinterfaces.ip_forwarding", "daemons.network_daemon"];

/** `section.key` → value, of an INI file. */
function readSettings(text: string, settings: Map<string, string>): void {
  let section = "";
  for (const line of text.split("\n")) {
    const title = /^\s*\[([^\]]+)\]\s*$/.exec(line)?.[1];
    if (title !== undefined) section = title.trim();
    const [, key, value] = /^\s*([^#;=[\s][^=]*?)\s*[=:]\s*(.*?)\s*$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) settings.set(`${section}.${key}`.toLowerCase(), value);
  }
}
