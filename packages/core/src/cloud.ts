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

  /** Gives the node its subnet and addresses on NICs. Running it again finishes or confirms the same. */
  provision(request: ProvisionRequest, job: CloudJob, options?: CloudCallOptions): Promise<NodeNetwork>;

  /**
   * Makes the VPC stop delivering the node's addresses and reads that back. `verified` is true only when the
   * cloud, asked afterwards, shows no instance holding any of them (G5).
   */
  fence(target: NodeResources, job: CloudJob, options?: CloudCallOptions): Promise<FenceResult>;

  /** Deletes what is recorded and tagged as ours, after a fence. What is left is reported, not forgotten. */
  release(target: NodeResources, job: CloudJob, options?: CloudCallOptions): Promise<ReleaseResult>;
}

export interface CloudCallOptions {
  readonly signal?: AbortSignal | undefined;
  /** One line per step, for progress output. */
  readonly onProgress?: ((message: string) => void) | undefined;
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
  /** How many addresses VMs shall be able to have. */
  readonly poolSize: number;
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
}

export interface NodeNetwork {
  /** Addresses that the VPC delivers to this node, ascending. */
  readonly addresses: readonly string[];
  readonly subnetID?: string;
  readonly eniIDs: readonly string[];
  /** MACs of the secondary NICs; they must be brought up on the host. */
  readonly nicMACs: readonly string[];
  readonly aliasRangeName?: string;
}

export interface FenceResult {
  readonly verified: boolean;
  /** What the cloud said, for the event log. */
  readonly evidence: string;
}

export interface ReleaseResult {
  /** Ids of what was deleted or was already gone. */
  readonly released: readonly string[];
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

/** What a cloud package exports as default. */
export interface CloudDriver {
  readonly platforms: readonly string[];
  /** Cheap: loads no vendor SDK, makes no request. Credentials come from the vendor's usual places. */
  open(platform: string, options?: OpenCloudOptions): Cloud;
  /** Whether the metadata service of this cloud answers here; used when `--platform` is not given. */
  detect(options?: CloudCallOptions): Promise<boolean>;
}

export interface OpenCloudOptions {
  /** Environment to read credentials and endpoint overrides from; default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}
