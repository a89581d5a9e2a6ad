import type { Store } from "@cocoon-net/core";

export interface VirtualMachine {
  readonly name: string;
  readonly node: string;
  readonly mac: string;
  /** Leased by DHCP. */
  readonly address: string;
}

export interface LogTail {
  /** Whose log, and what is to be known about it. */
  readonly title: string;
  readonly lines: readonly string[];
}

/** A TCP connection over which two VMs talk without end, a line each way ten times a second. */
export interface Talk extends AsyncDisposable {
  /** How often a line has gone there and back. */
  readonly rounds: number;
  /** Why it has ended. */
  readonly failure: string | undefined;
}

/** A cluster to play with: real processes in network namespaces, or everything embedded in this process. */
export interface World extends AsyncDisposable {
  /** What is there already, one line. */
  readonly description: string;
  /** Without kernels and processes: agents can be neither restarted nor moved between. */
  readonly isEmbedded: boolean;
  /** The cluster's store, for looking. */
  readonly store: Store;
  /** Every node that was ever booted, in that order. */
  readonly nodes: readonly string[];
  /** By name, where they are now. */
  readonly machines: ReadonlyMap<string, VirtualMachine>;
  /** Longest wait for anything that the cluster does by itself, in seconds. */
  readonly patience: number;
  /** Boots an instance, runs `init`, starts the daemon; resolves when the node is alive in the store. */
  addNode(name: string): Promise<void>;
  /** Boots a VM on a node; resolves when its DHCP client has an address. */
  addVirtualMachine(node: string, name: string): Promise<VirtualMachine>;
  /** What `leases.json` of the node says. */
  leasesFile(node: string): Promise<readonly { readonly mac: string; readonly ip: string }[]>;
  ping(from: VirtualMachine, address: string): Promise<boolean>;
  /** Kills the node's agent without warning, and lets the cloud say that the instance is stopped. Its kernel goes on. */
  crash(node: string): Promise<void>;
  /**
   * Moves an address, as an operator does; resolves when its new node serves it.
   * @param whenMoved is called when the new node has the address: then the VM goes over
   */
  migrate(address: string, to: string, whenMoved: () => Promise<void>): Promise<void>;
  /** Plugs a running VM into another node, as a live migration does. */
  replug(name: string, node: string): Promise<void>;
  talk(from: VirtualMachine, to: VirtualMachine): Promise<Talk>;
  /** Kills the node's agent; its instance runs on. */
  silence(node: string): Promise<void>;
  /** Starts the agent of a node that was silenced or has crashed, as its service manager does after a boot. */
  restart(node: string): Promise<void>;
  /** The same with `init` first, for a node that has lost its block. */
  reboot(node: string): Promise<void>;
  /** Starts another controller. */
  addController(name: string): Promise<void>;
  /** Commands that show this cluster from another terminal; empty when none can. */
  lookInside(): readonly string[];
  /** Parts that should run and have ended by themselves, each with how. */
  ended(): readonly string[];
  /** What the parts wrote that may explain a failure, the likeliest first. */
  logs(): Promise<readonly LogTail[]>;
}
