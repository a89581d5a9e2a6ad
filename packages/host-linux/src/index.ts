export { type Announcement, announceByArp } from "./arp-announcement.ts";
export { type ArpProbe, type ArpProbeOptions, openArpProbe } from "./arp-probe.ts";
export { type BridgePorts, openBridgePorts } from "./bridge-ports.ts";
export { conflist, DEFAULT_CONFLIST_PATH, writeConflist } from "./cni-conflist.ts";
export { type DhcpSocket, type DhcpSocketOptions, openDhcpSocket } from "./dhcp-socket.ts";
export { DROP_COMMENT, removeDropRules } from "./forwarding-rules.ts";
export {
  type Capability,
  hasKernelModule,
  type IptablesFacts,
  iptablesFacts,
  isClockSynchronised,
  missingCapabilities,
  ownersOfUdpPort,
  readSysctl,
} from "./host-facts.ts";
export {
  type CallOptions,
  type HostNetwork,
  type HostNetworkOptions,
  openHostNetwork,
} from "./host-network.ts";
export { type HostPlan, type HostSetUp, type HostSetUpOptions, setUpHost } from "./host-setup.ts";
export { type HostMark, type UndoHostOptions, undoHost } from "./host-undo.ts";
export type { IptablesOptions, Rule } from "./iptables.ts";
export { type DeleteLocalRoutesOptions, deleteLocalRoutes, type LocalRoute } from "./local-routes.ts";
export { applyMoved, type MovedOptions, type MovedPlan } from "./moved-addresses.ts";
export { type BringUpOptions, bringUpLinksByMAC } from "./nic-bring-up.ts";
export { type PeerCredentials, peerOf } from "./peer-credentials.ts";
export type { Link, LinkSelector } from "./rtnetlink.ts";
export { notifyServiceManager, type ServiceEnvironment, watchdogMs } from "./service-manager.ts";
