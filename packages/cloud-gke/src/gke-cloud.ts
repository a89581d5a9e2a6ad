import {
  type CallPurpose,
  type Cloud,
  CloudBudget,
  type CloudCall,
  type CloudCallOptions,
  type CloudJob,
  type CloudLimits,
  type CloudResource,
  type FenceResult,
  type InstanceIdentity,
  type InstanceState,
  JobLog,
  type ListResourcesRequest,
  type MoveRequest,
  type MoveResult,
  type NodeNetwork,
  type NodeResources,
  type ProvisionRequest,
  type ReleaseResult,
} from "@cocoon-net/core";
import { AccessTokens } from "./access-tokens.ts";
import { AliasLimit } from "./alias-limit.ts";
import { GceApi } from "./api.ts";
import { GceCalls } from "./calls.ts";
import type { Looks, Steps } from "./change.ts";
import { fence } from "./fence.ts";
import { parseInstanceRef } from "./instance-ref.ts";
import { describeInstance } from "./instance-state.ts";
import { listResources } from "./list-resources.ts";
import { Metadata } from "./metadata.ts";
import { move } from "./move.ts";
import { provision } from "./provision.ts";
import { release } from "./release.ts";
import { aliasRangesPerNIC, apiEndpoint, type Environment, metadataEndpoint } from "./settings.ts";
import { shrink } from "./shrink.ts";
import { defaultTiming, type Timing } from "./timing.ts";

export interface GkeCloudOptions {
  readonly env: Environment;
  readonly budget?: CloudBudget | undefined;
  readonly onCall?: ((call: CloudCall) => void) | undefined;
  readonly timing?: Timing;
}

/** Alias IP ranges of Compute Engine instances, GKE nodes among them, through the compute v1 API. */
export class GkeCloud implements Cloud {
  readonly platform = "gke";
  readonly #calls: GceCalls;
  readonly #metadata: Metadata;
  readonly #limit: AliasLimit;
  readonly #closing = new AbortController();

  /** @throws {InvalidError} when a setting in the environment is malformed */
  constructor(options: GkeCloudOptions) {
    const { env, budget = new CloudBudget(), onCall, timing = defaultTiming } = options;
    this.#metadata = new Metadata(metadataEndpoint(env), timing);
    this.#limit = new AliasLimit(aliasRangesPerNIC(env));
    const tokens = new AccessTokens(env, this.#metadata);
    this.#calls = new GceCalls({ endpoint: apiEndpoint(env), tokens, timing, budget, onCall });
  }

  async describeSelf(options: CloudCallOptions = {}): Promise<InstanceIdentity> {
    return await this.#metadata.identity(this.#signal(options));
  }

  async describeInstance(instanceID: string, options: CloudCallOptions = {}): Promise<InstanceState> {
    const ref = parseInstanceRef(instanceID);
    return ref === undefined ? "unknown" : await describeInstance(this.#looks("release", options), ref);
  }

  /** Makes no request: the API shows no limits, it only refuses what is beyond them. */
  async describeLimits(_instance: InstanceIdentity, options: CloudCallOptions = {}): Promise<CloudLimits> {
    this.#signal(options).throwIfAborted();
    return {
      assigns: "block",
      nicsPerNode: undefined,
      addressesPerNIC: undefined,
      aliasRangesPerNIC: this.#limit.perNIC,
      smallestBlock: 32,
    };
  }

  async provision(
    request: ProvisionRequest,
    job: CloudJob,
    options: CloudCallOptions = {},
  ): Promise<NodeNetwork> {
    return await provision(this.#steps("allocate", job, options), request);
  }

  async shrink(
    target: NodeResources,
    addresses: readonly string[],
    job: CloudJob,
    options: CloudCallOptions = {},
  ): Promise<NodeNetwork> {
    return await shrink(this.#steps("release", job, options), target, addresses);
  }

  async move(request: MoveRequest, job: CloudJob, options: CloudCallOptions = {}): Promise<MoveResult> {
    return await move(this.#steps("allocate", job, options), request);
  }

  async listResources(
    request: ListResourcesRequest,
    options: CloudCallOptions = {},
  ): Promise<readonly CloudResource[]> {
    return await listResources(this.#looks("clean-up", options), request);
  }

  async fence(target: NodeResources, job: CloudJob, options: CloudCallOptions = {}): Promise<FenceResult> {
    return await fence(this.#steps("fence", job, options), target);
  }

  async release(
    target: NodeResources,
    job: CloudJob,
    options: CloudCallOptions = {},
  ): Promise<ReleaseResult> {
    return await release(this.#steps("release", job, options), target);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Error("the GKE cloud was closed"));
  }

  #signal(options: CloudCallOptions): AbortSignal {
    const closing = this.#closing.signal;
    return options.signal === undefined ? closing : AbortSignal.any([closing, options.signal]);
  }

  #looks(purpose: CallPurpose, options: CloudCallOptions): Looks {
    const since = performance.now();
    const scope = { signal: this.#signal(options), purpose: options.purpose ?? purpose, since };
    return { api: new GceApi(this.#calls, scope), progress: options.onProgress ?? (() => {}) };
  }

  #steps(purpose: CallPurpose, job: CloudJob, options: CloudCallOptions): Steps {
    return { ...this.#looks(purpose, options), job: new JobLog(job), limit: this.#limit };
  }
}
