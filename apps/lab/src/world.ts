import type { Store } from "@cocoon-net/core";

export interface VirtualMachine {
  readonly name: string;
  readonly node: string;
  readonly mac: string;
  /** Leased by DHCP. */
  readonly address: string;
}

/** A cluster to play with: real processes in network namespaces, or everything embedded in this process. */
export interface World extends AsyncDisposable {
  /** What it is made of, one line. */
  readonly description: string;
  /** The cluster's store, for looking. */
  readonly store: Store;
  /** Boots an instance, runs `init`, starts the daemon; resolves when the node is alive in the store. */
  addNode(name: string): Promise<void>;
  /** Boots a VM on a node; resolves when its DHCP client has an address. */
  addVirtualMachine(node: string, name: string): Promise<VirtualMachine>;
  /** What `leases.json` of the node says. */
  leasesFile(node: string): Promise<readonly { readonly mac: string; readonly ip: string }[]>;
  ping(from: VirtualMachine, address: string): Promise<boolean>;
  /** Kills the node's agent without warning, and lets the cloud say that the instance is stopped. Its kernel goes on. */
  crash(node: string): Promise<void>;
  /** Starts another controller. */
  addController(name: string): Promise<void>;
  /** Commands that show this cluster from another terminal. */
  lookInside(): readonly string[];
  /** What the parts wrote, for a failed run. */
  logs(): Promise<readonly { readonly name: string; readonly tail: string }[]>;
  /** Seconds for waits that depend on how fast this world is. */
  readonly patience: number;
}
