import {
  checkNodeName,
  contains,
  formatAddress,
  hostRange,
  InvalidError,
  parseAddress,
  parseCidr,
  sizeOf,
} from "@cocoon-net/core";
import type { HostPlan } from "@cocoon-net/host-linux";
import { UsageError, usage } from "./failure.ts";
import { checkPolicy, type PoolPolicy } from "./pool-policy.ts";
import type { PoolFile } from "./state-directory.ts";

/** What `init` and `adopt` were asked to do, as given on the command line. */
export interface NodeFlags {
  readonly platform?: string | undefined;
  readonly nodeName: string;
  readonly subnet?: string | undefined;
  readonly poolSize: number;
  readonly poolMin?: number | undefined;
  readonly poolTarget?: number | undefined;
  readonly poolMax?: number | undefined;
  /** Milliseconds. */
  readonly poolReleaseAfter?: number | undefined;
  readonly gateway?: string | undefined;
  readonly primaryNic?: string | undefined;
  readonly dns: string;
  readonly stateDir: string;
  readonly dropCidr: readonly string[];
  readonly dropInternalAccess: boolean;
  readonly dryRun: boolean;
  readonly store?: string | undefined;
  readonly parentCidr?: string | undefined;
  readonly instanceId?: string | undefined;
  readonly cniConflist?: string | undefined;
  readonly pidFile: string;
}

/** The settings of a node that do not depend on which subnet it gets. */
export interface NodeSettings {
  readonly platform: string;
  readonly primaryNIC: string;
  readonly dnsServers: readonly string[];
  readonly dropInternalAccess: boolean;
  readonly dropCIDRs: readonly string[];
  /** Undefined where the pool keeps its size. */
  readonly poolPolicy: PoolPolicy | undefined;
}

const primaryNICs: Readonly<Record<string, string>> = { volcengine: "eth0", gke: "ens4" };

/** Checks what can be checked before anything is touched. @throws {UsageError} naming the flag. */
export function resolveSettings(flags: NodeFlags, platform: string): NodeSettings {
  const primaryNIC = flags.primaryNic ?? primaryNICs[platform];
  if (primaryNIC === undefined) {
    throw new UsageError(`platform "${platform}" has no default --primary-nic; name it`);
  }
  // Without a store it is a name in files, and any will do.
  if (flags.store !== undefined || flags.nodeName === "") usage(() => checkNodeName(flags.nodeName));
  if (flags.subnet !== undefined) checkGateway(flags.subnet, flags.gateway);
  return {
    platform,
    primaryNIC,
    dnsServers: addressesIn(flags.dns),
    dropInternalAccess: flags.dropInternalAccess,
    poolPolicy: policyOf(flags),
    dropCIDRs: flags.dropCidr,
  };
}

/** Naming one of its three numbers is what makes a pool follow demand. */
function policyOf({ poolMin, poolTarget, poolMax, poolReleaseAfter }: NodeFlags): PoolPolicy | undefined {
  if (poolMin === undefined && poolTarget === undefined && poolMax === undefined) return undefined;
  const max = poolMax ?? 253;
  const target = poolTarget ?? Math.min(16, max);
  const releaseAfterMs = poolReleaseAfter ?? 600_000;
  return usage(() => checkPolicy({ min: poolMin ?? 0, target, max, releaseAfterMs }));
}

/** The gateway of a subnet: the one asked for, else the first host address. @throws {UsageError} */
export function checkGateway(subnetText: string, gatewayText: string | undefined): string {
  const subnet = parseCidr(subnetText, "--subnet");
  if (subnet.prefix > 30)
    throw new UsageError(`--subnet ${subnetText} has no room for VMs; use a /30 or wider`);
  const hosts = hostRange(subnet);
  const gateway = gatewayText === undefined ? hosts.first : parseAddress(gatewayText, "--gateway");
  if (gateway < hosts.first || gateway > hosts.last) {
    throw new UsageError(`--gateway ${gatewayText} is not a host address of ${subnetText}`);
  }
  return formatAddress(gateway);
}

/** What stands between commas. @throws {InvalidError} */
export function addressesIn(list: string): string[] {
  return list
    .split(",")
    .map((text) => text.trim())
    .filter((text) => text !== "")
    .map((text) => formatAddress(parseAddress(text)));
}

/** Every host address of the subnet but the gateway, ascending, at most `poolSize`. */
export function allAddresses(subnetText: string, gateway: string, poolSize: number): string[] {
  const subnet = parseCidr(subnetText);
  const hosts = hostRange(subnet);
  const skip = parseAddress(gateway);
  const addresses: string[] = [];
  for (let address = hosts.first; address <= hosts.last && addresses.length < poolSize; address++) {
    if (address !== skip) addresses.push(formatAddress(address));
  }
  return addresses;
}

/** Where the kernel of this node has to be brought, from what `pool.json` says. */
export function hostPlanOf(
  pool: PoolFile,
  options: { readonly manageIptables: boolean; readonly cniConflist?: string | undefined },
): HostPlan {
  return {
    subnet: pool.subnet,
    gateway: pool.gateway,
    ...(pool.primaryNIC === undefined ? {} : { primaryNIC: pool.primaryNIC }),
    secondaryNICs: pool.secondaryNICs ?? [],
    manageIptables: options.manageIptables,
    dropInternalAccess: pool.dropInternalAccess ?? false,
    dropCIDRs: pool.dropCIDRs ?? [],
    ...(options.cniConflist === undefined ? {} : { conflistPath: options.cniConflist }),
  };
}

/** @throws {InvalidError} when the pool names addresses outside its subnet. */
export function checkPool(pool: PoolFile, path: string): void {
  const subnet = parseCidr(pool.subnet, `${path}: subnet`);
  const stray = pool.ips.find((text) => !contains(subnet, { base: parseAddress(text), prefix: 32 }));
  if (stray !== undefined) throw new InvalidError(`${path}: address ${stray} is outside ${pool.subnet}`);
  if (pool.ips.length > sizeOf(subnet.prefix))
    throw new InvalidError(`${path}: more addresses than ${pool.subnet} has`);
}
