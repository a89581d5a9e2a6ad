import type { CloudBudget } from "./cloud-budget.ts";

/**
 * The Cloud port: what a VPC can do for a node, in semantic steps. Each operation is idempotent, takes an
 * `AbortSignal` and ends by a deadline. The ones that change something take a {@link CloudJob}, write down
 * what they are about to do before each mutating request (G11), and read the result back.
 *
 * Errors: {@link ThrottledError}, {@link ExhaustedError} (quota or capacity), {@link NotFoundError},
 * {@link ConflictError}, {@link AuthError}, {@link InvalidError}, {@link UnavailableError}.
 */
export interface Cloud extends AsyncDisposable {
  readonly platform: string;

  /** Who this machine is, from the instance metadata service. */
  describeSelf(options?: CloudCallOptions): Promise<InstanceIdentity>;

  /** What the cloud says of an instance. `unknown` whenever it does not say clearly (G8). */
  describeInstance(instanceID: string, options?: CloudCallOptions): Promise<InstanceState>;

  /** What the cloud lets this instance have. Asked of the cloud, not remembered from its documentation. */
  describeLimits(instance: InstanceIdentity, options?: CloudCallOptions): Promise<CloudLimits>;

  /**
   * Gives the node its subnet and addresses on NICs, at least as many as asked for. Running it again finishes or
   * confirms the same; with a larger `poolSize`, or with `addresses`, the node grows. It never takes any away.
   *
   * Where a quota, the subnet or the instance has no room for all, the node gets what fits, and
   * {@link NodeNetwork.short} says what is missing.
   *
   * @throws {ExhaustedError} when the node has no address at all then
   * @throws {ConflictError} when the subnet, or one of `addresses`, is somebody else's
   */
  provision(request: ProvisionRequest, job: CloudJob, options?: CloudCallOptions): Promise<NodeNetwork>;

  /**
   * Takes addresses from a node that no longer uses them; the caller says which, because the cloud cannot know which are
   * leased. Of one that was reclaimed without a fence the instance alone may be known. Addresses that the node does not
   * have are passed over. Where whole blocks are assigned ({@link CloudLimits.assigns}) only addresses of other subnets
   * are taken, which were moved here.
   *
   * @throws {NotFoundError} when the instance is gone, and has nothing any more
   */
  shrink(
    target: NodeResources,
    addresses: readonly string[],
    job: CloudJob,
    options?: CloudCallOptions,
  ): Promise<NodeNetwork>;

  /**
   * Lets the VPC deliver one address to another node, and reads that back. Between the two it is delivered to nobody.
   * Undone by a move in the other direction. Moves from or to one node are made one after the other.
   *
   * @throws {ExhaustedError} when the target has no room for it; then nothing was changed
   * @throws {ConflictError} when somebody else than `from` or `to` has it
   */
  move(request: MoveRequest, job: CloudJob, options?: CloudCallOptions): Promise<MoveResult>;

  /**
   * Everything at the cloud that carries all of these tags, or is otherwise to be told as this cluster's. Complete, or
   * an error (G8).
   */
  listResources(request: ListResourcesRequest, options?: CloudCallOptions): Promise<readonly CloudResource[]>;

  /**
   * Makes the VPC stop delivering the node's addresses and reads that back. `verified` is true only when the
   * cloud, asked afterwards, shows no instance holding any of them (G5).
   */
  fence(target: NodeResources, job: CloudJob, options?: CloudCallOptions): Promise<FenceResult>;

  /**
   * Deletes what is recorded and tagged as ours, after a fence. What is left is reported, not forgotten. With
   * {@link NodeResources.keepWarm}, NICs stay with their addresses for the next node that gets the subnet.
   */
  release(target: NodeResources, job: CloudJob, options?: CloudCallOptions): Promise<ReleaseResult>;
}

export interface CloudCallOptions {
  readonly signal?: AbortSignal | undefined;
  /** One line per step, for progress output. */
  readonly onProgress?: ((message: string) => void) | undefined;
  /** The queue of the {@link CloudBudget} that the requests wait in. Default: what the operation is for. */
  readonly purpose?: CallPurpose | undefined;
}

export interface InstanceIdentity {
  readonly instanceID: string;
  readonly zone: string;
  readonly region: string;
  /** Volcengine VPC id, or GCE project. */
  readonly network: string;
}

export type InstanceState = "running" | "stopped" | "gone" | "unknown";

export interface ProvisionRequest {
  readonly node: string;
  readonly instance: InstanceIdentity;
  /** The node's block, e.g. `172.20.100.0/24`. */
  readonly subnet: string;
  /** The range that all nodes' blocks are cut from, where the node belongs to a cluster. */
  readonly parentCIDR?: string;
  /** How many addresses VMs shall be able to have, in all. */
  readonly poolSize: number;
  /** Addresses of the subnet that shall be among them. */
  readonly addresses?: readonly string[];
  /** Addresses of the subnet that other nodes serve on purpose: they are left to them. */
  readonly movedAway?: readonly string[];
  /** Tags written on everything that is made, e.g. cluster and node UID. */
  readonly tags: Readonly<Record<string, string>>;
}

/** What belongs to one node at the cloud. Recorded in `pool.json` and in `nodes/{node}`. */
export interface NodeResources {
  readonly node: string;
  readonly instanceID: string | undefined;
  readonly subnet: string;
  readonly subnetID?: string;
  readonly eniIDs: readonly string[];
  /** Addresses of the subnet that other nodes serve on purpose: their holders are no obstacle to a fence. */
  readonly movedAway?: readonly string[];
  /** Addresses of other subnets that this node serves: a fence and a release cover them too. */
  readonly movedIn?: readonly string[];
  /** For a release: NICs are detached and kept, up to this many. Default 0. */
  readonly keepWarm?: number;
}

export interface CloudLimits {
  /** `addresses`: one by one, so that a pool can follow demand. `block`: the node's whole subnet at once. */
  readonly assigns: "addresses" | "block";
  /** Secondary NICs that the instance may have for VMs; undefined where addresses need none. */
  readonly nicsPerNode: number | undefined;
  /** Secondary addresses of one NIC; undefined where blocks are assigned. */
  readonly addressesPerNIC: number | undefined;
  /** Alias ranges of one NIC, as far as the cloud has said; undefined where addresses are assigned one by one. */
  readonly aliasRangesPerNIC: number | undefined;
  /** Prefix length of the smallest block that can be assigned or moved. */
  readonly smallestBlock: number;
}

export interface MoveRequest {
  /** An address of `from`'s or, on the way back, of `to`'s subnet. */
  readonly address: string;
  readonly from: NodeResources;
  readonly to: NodeResources;
  /** Who `to` is: NICs may have to be attached to it. */
  readonly instance: InstanceIdentity;
  /** Tags for what has to be made. */
  readonly tags: Readonly<Record<string, string>>;
}

export interface MoveResult {
  /** True only when the cloud, asked afterwards, shows that the target has the address, and nobody else. */
  readonly verified: boolean;
  /** What the cloud said, for the event log. */
  readonly evidence: string;
  /** What `to` has now; NICs that were attached for the move among it. */
  readonly network: NodeNetwork;
}

export interface ListResourcesRequest {
  readonly tags: Readonly<Record<string, string>>;
  /** The range that all nodes' blocks are cut from: where there are no tags, what lies in it is the cluster's. */
  readonly parentCIDR: string;
  /** Where to look: the zone, region and network of any node of the cluster. */
  readonly instance: InstanceIdentity;
}

/** A thing at the cloud that belongs to a cluster. */
export interface CloudResource {
  readonly id: string;
  readonly kind: "nic" | "subnet" | "alias";
  /** As tagged; undefined where the kind has no tags. */
  readonly node: string | undefined;
  /** The instance that it was made for, as tagged. */
  readonly madeFor: string | undefined;
  /** The instance that has it now; undefined when none has. */
  readonly instanceID: string | undefined;
  /** Addresses (`10.0.0.7`) and blocks (`10.0.0.0/24`) that it brings. */
  readonly addresses: readonly string[];
  /** Kept for the next node. */
  readonly warm: boolean;
}

export interface NodeNetwork {
  /** Addresses that the VPC delivers to this node, ascending. */
  readonly addresses: readonly string[];
  readonly subnetID?: string;
  readonly eniIDs: readonly string[];
  /** MACs of the secondary NICs; they must be brought up on the host. */
  readonly nicMACs: readonly string[];
  readonly aliasRangeName?: string;
  /** Present when a node got fewer addresses than were asked for. Asking again helps only once the reason is gone. */
  readonly short?: { readonly addresses: number; readonly reason: string };
}

export interface FenceResult {
  readonly verified: boolean;
  /** What the cloud said, for the event log. */
  readonly evidence: string;
}

export interface ReleaseResult {
  /** Ids of what was deleted or was already gone. */
  readonly released: readonly string[];
  /** Ids of what is kept warm. */
  readonly warm?: readonly string[];
  /** Ids that still exist, with the reason. Empty when everything is gone. */
  readonly remaining: readonly { readonly id: string; readonly reason: string }[];
}

/** A durable note of one cloud job: survives a crash, so that a restart finishes or undoes it. */
export interface CloudJob {
  /** Unique for the job; client tokens are derived from it, so a repeat is the same request to the cloud. */
  readonly id: string;
  /** What earlier runs of this job wrote down, oldest first. */
  readonly steps: readonly JobStep[];
  /**
   * Resolves when the step is durable. Called before each mutating request, and again with its result. It may refuse:
   * the job is no longer its caller's, or has to pause. Then the request must not be made, and the error is passed on.
   */
  record(step: JobStep): Promise<void>;
}

export interface JobStep {
  /** The vendor's action, e.g. `CreateNetworkInterface`. */
  readonly action: string;
  readonly phase: "intent" | "done" | "failed";
  /** Distinguishes several runs of one action within a job, e.g. `eni-3`. */
  readonly key: string;
  /** Ids and parameters needed to go on after a crash; never secrets. */
  readonly detail?: Readonly<Record<string, string>>;
}

/**
 * What a request is for; each has its own queue, so that cleaning up never starves allocating, and so that lost nodes
 * are fenced before anything of theirs is deleted.
 */
export type CallPurpose = "allocate" | "fence" | "release" | "clean-up";

/** One request that was made, for counters and histograms. */
export interface CloudCall {
  readonly platform: string;
  /** The vendor's action, e.g. `CreateNetworkInterface`. */
  readonly action: string;
  readonly result: "ok" | "throttled" | "refused" | "unknown";
  /** From sending to the answer, without the wait for the budget. */
  readonly tookMs: number;
  /** The wait for the budget. */
  readonly waitedMs: number;
}

/** What a cloud package exports as default. */
export interface CloudDriver {
  readonly platforms: readonly string[];
  /** Cheap: loads no vendor SDK, makes no request. Credentials come from the vendor's usual places. */
  open(platform: string, options?: OpenCloudOptions): Cloud;
  /** Whether the metadata service of this cloud answers here; used when `--platform` is not given. */
  detect(options?: CloudCallOptions): Promise<boolean>;
  /**
   * Why the instance that this runs on is about to end, in one line, or undefined: as its metadata service says now,
   * then every change, until the signal ends it. An outage is waited out. Cheap: for a daemon. Absent where the cloud
   * announces nothing.
   */
  watchDeparture?(options?: WatchDepartureOptions): AsyncIterable<string | undefined>;
}

export interface WatchDepartureOptions {
  /** Environment to read endpoint overrides from; default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal | undefined;
}

export interface OpenCloudOptions {
  /** Environment to read credentials and endpoint overrides from; default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Shared by every cloud of the process. Default: one of its own, with safe rates. */
  readonly budget?: CloudBudget | undefined;
  /** Told of every request to the cloud, tries that were refused included. */
  readonly onCall?: ((call: CloudCall) => void) | undefined;
}
