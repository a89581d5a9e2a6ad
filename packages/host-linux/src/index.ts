/** What has to be in place before the first operation is implemented; replaced by the parts as they land. */
function pending(what: string): never {
  throw new Error(`${what} is not built yet`);
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface HostNetworkOptions {
  /** Deadline of one kernel request. Default 5,000. */
  readonly timeoutMs?: number;
}

export interface Link {
  readonly index: number;
  readonly name: string;
  /** Lowercase with colons; undefined for links without one (tunnels). */
  readonly mac: string | undefined;
  /** `bridge`, `veth`, …; undefined for physical and loopback links. */
  readonly kind: string | undefined;
  /** Administratively up (IFF_UP). */
  readonly up: boolean;
}

export type LinkSelector = { readonly name: string } | { readonly index: number } | { readonly mac: string };

/** Links, addresses, routes and neighbours of this network namespace, over one shared netlink socket. */
export interface HostNetwork extends AsyncDisposable {
  getLink(by: LinkSelector, options?: CallOptions): Promise<Link | undefined>;
  listLinks(options?: CallOptions): Promise<Link[]>;
  /** @returns whether it had to be created */
  ensureBridge(name: string, options?: CallOptions & { readonly mac?: string }): Promise<boolean>;
  /** @returns whether that changed anything */
  setLinkUp(name: string, options?: CallOptions): Promise<boolean>;
  setLinkDown(name: string, options?: CallOptions): Promise<boolean>;
  /** @returns false when there was no such link */
  deleteLink(name: string, options?: CallOptions): Promise<boolean>;
  /** IPv4 addresses as `172.20.100.1/24`. */
  listAddresses(device: string, options?: CallOptions): Promise<string[]>;
  /** @param address with prefix length: `172.20.100.1/24` */
  ensureAddress(address: string, device: string, options?: CallOptions): Promise<boolean>;
  deleteAddress(address: string, device: string, options?: CallOptions): Promise<boolean>;
  /** `address/32 dev device scope link` in the main table. */
  replaceHostRoute(address: string, device: string, options?: CallOptions): Promise<void>;
  /** @returns false when there was no such route */
  deleteHostRoute(address: string, device: string, options?: CallOptions): Promise<boolean>;
  /** Addresses of all /32 routes to `device` in the main table. */
  listHostRoutes(device: string, options?: CallOptions): Promise<string[]>;
  /** A stale entry: used at once, verified and expired by the kernel. */
  replaceNeighbour(address: string, mac: string, device: string, options?: CallOptions): Promise<void>;
  deleteNeighbour(address: string, device: string, options?: CallOptions): Promise<boolean>;
}

export function openHostNetwork(_options: HostNetworkOptions = {}): HostNetwork {
  return pending("openHostNetwork");
}

export interface HostPlan {
  /** Default `cni0`. */
  readonly bridge?: string;
  /** `172.20.100.0/24` */
  readonly subnet: string;
  /** `172.20.100.1` */
  readonly gateway: string;
  readonly primaryNIC?: string;
  readonly secondaryNICs?: readonly string[];
  /** false: iptables is not touched (`--skip-iptables`). Default true. */
  readonly manageIptables?: boolean;
  readonly dropInternalAccess?: boolean;
  readonly dropCIDRs?: readonly string[];
  /** Default `/etc/cni/net.d/30-cocoon-dhcp.conflist`. */
  readonly conflistPath?: string;
}

export interface HostSetUp {
  /** One line per change that was made; empty when everything was in place. */
  readonly changes: readonly string[];
  /** One line per thing that could not be done and is not required. */
  readonly warnings: readonly string[];
}

export interface HostSetUpOptions extends CallOptions {
  /** Used and left open when given. */
  readonly network?: HostNetwork;
  /** The iptables program. Default `iptables`. */
  readonly iptables?: string;
}

export async function setUpHost(_plan: HostPlan, _options: HostSetUpOptions = {}): Promise<HostSetUp> {
  return pending("setUpHost");
}

/** Removes cocoon-net's own DROP rules. @returns one line per removed rule */
export async function removeDropRules(
  _options: CallOptions & { readonly iptables?: string; readonly bridge?: string } = {},
): Promise<readonly string[]> {
  return pending("removeDropRules");
}

export const DEFAULT_CONFLIST_PATH: string = "/etc/cni/net.d/30-cocoon-dhcp.conflist";

/** @returns whether the file had to be written */
export async function writeConflist(_path: string, _bridge: string): Promise<boolean> {
  return pending("writeConflist");
}

/** Waits for links with these MAC addresses to appear and sets them up. @returns their names, in the order of `macs` */
export async function bringUpLinksByMAC(
  _macs: readonly string[],
  _options: CallOptions & { readonly timeoutMs?: number; readonly network?: HostNetwork } = {},
): Promise<string[]> {
  return pending("bringUpLinksByMAC");
}

export interface DhcpSocketOptions {
  /** Default `cni0`. */
  readonly device?: string;
  /** Default 67. */
  readonly port?: number;
  /** Called for what could not be sent or received. */
  readonly onError?: (error: Error) => void;
}

export interface DhcpSocket extends AsyncDisposable {
  onPacket(listener: (packet: Uint8Array, from: { address: string; port: number }) => void): void;
  send(packet: Uint8Array, to: { address: string; port: number }): void;
  close(): Promise<void>;
}

/** UDP socket that hears and speaks on one device only, broadcasts included. */
export async function openDhcpSocket(_options: DhcpSocketOptions = {}): Promise<DhcpSocket> {
  return pending("openDhcpSocket");
}
