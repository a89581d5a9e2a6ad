import {
  DisposeStack,
  describeError,
  formatCidr,
  InvalidError,
  lastOf,
  NotFoundError,
  parseAddress,
  parseCidr,
} from "@cocoon-net/core";
import { DEFAULT_CONFLIST_PATH, writeConflist } from "./cni-conflist.ts";
import { applyForwardingRules, forwardingRules } from "./forwarding-rules.ts";
import { type CallOptions, type HostNetwork, openHostNetwork } from "./host-network.ts";
import type { HostMark } from "./host-undo.ts";
import { checkInterfaceName } from "./interface-name.ts";
import type { Rule } from "./iptables.ts";
import { formatMAC } from "./mac-address.ts";
import { describeSysctl, ensureSysctl, type Sysctl } from "./sysctl.ts";

export interface HostPlan {
  /** Default `cni0`. */
  readonly bridge?: string | undefined;
  /** `172.20.100.0/24` */
  readonly subnet: string;
  /** `172.20.100.1` */
  readonly gateway: string;
  readonly primaryNIC?: string | undefined;
  readonly secondaryNICs?: readonly string[] | undefined;
  /** false leaves iptables alone. Default true. */
  readonly manageIptables?: boolean | undefined;
  /** Keeps VMs from the node's own subnet through the host. Default false. */
  readonly dropInternalAccess?: boolean | undefined;
  /** IPv4 blocks that VMs must not reach. */
  readonly dropCIDRs?: readonly string[] | undefined;
  /** Default `/etc/cni/net.d/30-cocoon-dhcp.conflist`. */
  readonly conflistPath?: string | undefined;
}

export interface HostSetUp {
  /** One line per change that was made, like `created bridge cni0`; empty when everything was in place. */
  readonly changes: readonly string[];
  /** One line per thing that was not possible and that a node can live without. */
  readonly warnings: readonly string[];
}

export interface HostSetUpOptions extends CallOptions {
  /** Used, and left open. Default: one is opened for the call. */
  readonly network?: HostNetwork | undefined;
  /** The iptables program. Default `iptables`. */
  readonly iptables?: string | undefined;
  /** Told what is about to be made, before it is: what `undoHost` needs to take it back. */
  readonly onMake?: ((mark: HostMark) => Promise<void>) | undefined;
}

/**
 * Makes the host ready for VMs: bridge, sysctls, iptables, CNI network, in this order. Safe to repeat: what is in place
 * stays as it is. Nothing is touched when the plan is invalid.
 *
 * @throws {InvalidError} on a malformed plan, and what the kernel, iptables or the file system refuse
 */
export async function setUpHost(plan: HostPlan, options: HostSetUpOptions = {}): Promise<HostSetUp> {
  const { signal, iptables, onMake = async () => undefined } = options;
  const bridge = checkInterfaceName(plan.bridge ?? "cni0");
  const subnet = parseCidr(plan.subnet, "subnet");
  const gateway = parseAddress(plan.gateway, "gateway");
  if (gateway < subnet.base || gateway > lastOf(subnet)) {
    throw new InvalidError(`gateway ${plan.gateway} is not in subnet ${plan.subnet}`);
  }
  const secondaryNICs = plan.secondaryNICs ?? [];
  const nics = [...(plan.primaryNIC === undefined ? [] : [plan.primaryNIC]), ...secondaryNICs];
  nics.forEach(checkInterfaceName);
  const rules = forwardingRules({
    bridge,
    subnet: formatCidr(subnet),
    secondaryNICs,
    dropCIDRs: [...(plan.dropInternalAccess ? [plan.subnet] : []), ...(plan.dropCIDRs ?? [])],
  });

  await using stack = new DisposeStack();
  const network = options.network ?? stack.use(openHostNetwork());
  const changes: string[] = [];
  const warnings: string[] = [];

  const link = await network.getLink({ name: bridge }, { signal });
  if (link === undefined) await onMake({ kind: "bridge", name: bridge });
  if (await network.ensureBridge(bridge, { mac: bridgeMAC(gateway), signal })) {
    changes.push(`created bridge ${bridge}`);
  }
  const address = `${plan.gateway}/${subnet.prefix}`;
  if (!(await network.listAddresses(bridge, { signal })).includes(address)) {
    await onMake({ kind: "address", address, device: bridge });
  }
  if (await network.ensureAddress(address, bridge, { signal })) {
    changes.push(`set address ${address} on ${bridge}`);
  }
  if (await network.setLinkUp(bridge, { signal })) changes.push(`set ${bridge} up`);

  const required = [
    { path: "net/ipv4/ip_forward", value: "1" },
    ...["all", "default", bridge].map(looseReversePath),
  ];
  for (const sysctl of required) {
    if (await ensureSysctl(sysctl)) changes.push(`set sysctl ${describeSysctl(sysctl)}`);
  }
  for (const nic of nics) {
    const sysctl = looseReversePath(nic);
    try {
      if (await ensureSysctl(sysctl)) changes.push(`set sysctl ${describeSysctl(sysctl)}`);
    } catch (error) {
      const why = error instanceof NotFoundError ? `there is no NIC ${nic}` : describeError(error);
      warnings.push(`sysctl ${describeSysctl(sysctl)} is not set: ${why}`);
    }
  }

  if (plan.manageIptables ?? true) {
    const onAdd = (rule: Rule): Promise<void> => onMake({ kind: "rule", rule });
    changes.push(...(await applyForwardingRules(rules, { iptables, signal }, onAdd)));
  }

  const path = plan.conflistPath ?? DEFAULT_CONFLIST_PATH;
  const onReplace = (before?: string): Promise<void> =>
    onMake({ kind: "conflist", path, bridge, ...(before === undefined ? {} : { before }) });
  if (await writeConflist(bridge, path, onReplace)) changes.push(`wrote ${path}`);
  return { changes, warnings };
}

/** Traffic of a VM may enter by one NIC and leave by another, so the source check of RFC 3704 must be off. */
function looseReversePath(device: string): Sysctl {
  return { path: `net/ipv4/conf/${device}/rp_filter`, value: "0" };
}

/**
 * A fixed, locally administered MAC for a new bridge. Without one the bridge takes the lowest of its ports' addresses, so
 * the gateway that every guest has in its ARP cache changes when a VM comes or goes.
 */
function bridgeMAC(gateway: number): string {
  return formatMAC(
    Uint8Array.of(0x02, 0xc0, gateway >>> 24, (gateway >>> 16) & 255, (gateway >>> 8) & 255, gateway & 255),
  );
}
