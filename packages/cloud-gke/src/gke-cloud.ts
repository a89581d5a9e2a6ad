import type {
  Cloud,
  CloudCallOptions,
  CloudJob,
  FenceResult,
  InstanceIdentity,
  InstanceState,
  NodeNetwork,
  NodeResources,
  ProvisionRequest,
  ReleaseResult,
} from "@cocoon-net/core";
import { AccessTokens } from "./access-tokens.ts";
import { GceApi } from "./api.ts";
import type { Steps } from "./change.ts";
import { fence } from "./fence.ts";
import { describeInstance } from "./instance-state.ts";
import { JobLog } from "./job-log.ts";
import { Metadata } from "./metadata.ts";
import { provision } from "./provision.ts";
import { release } from "./release.ts";
import { apiEndpoint, type Environment, metadataEndpoint } from "./settings.ts";
import { defaultTiming, type Timing } from "./timing.ts";

/** Alias IP ranges of Compute Engine instances, GKE nodes among them, through the compute v1 API. */
export class GkeCloud implements Cloud {
  readonly platform = "gke";
  readonly #api: GceApi;
  readonly #metadata: Metadata;
  readonly #closing = new AbortController();

  /** @throws {InvalidError} when an endpoint in the environment is malformed */
  constructor(env: Environment, timing: Timing = defaultTiming) {
    this.#metadata = new Metadata(metadataEndpoint(env), timing);
    const tokens = new AccessTokens(env, this.#metadata);
    this.#api = new GceApi({ endpoint: apiEndpoint(env), tokens, timing });
  }

  async describeSelf(options: CloudCallOptions = {}): Promise<InstanceIdentity> {
    return await this.#metadata.identity(this.#signal(options));
  }

  async describeInstance(instanceID: string, options: CloudCallOptions = {}): Promise<InstanceState> {
    const progress = options.onProgress ?? (() => {});
    return await describeInstance(this.#api, instanceID, this.#signal(options), progress);
  }

  async provision(
    request: ProvisionRequest,
    job: CloudJob,
    options: CloudCallOptions = {},
  ): Promise<NodeNetwork> {
    return await provision(this.#steps(job, options), request);
  }

  async fence(target: NodeResources, job: CloudJob, options: CloudCallOptions = {}): Promise<FenceResult> {
    return await fence(this.#steps(job, options), target);
  }

  async release(
    target: NodeResources,
    job: CloudJob,
    options: CloudCallOptions = {},
  ): Promise<ReleaseResult> {
    return await release(this.#steps(job, options), target);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Error("the GKE cloud was closed"));
    await this.#api.close();
  }

  #signal(options: CloudCallOptions): AbortSignal {
    const closing = this.#closing.signal;
    return options.signal === undefined ? closing : AbortSignal.any([closing, options.signal]);
  }

  #steps(job: CloudJob, options: CloudCallOptions): Steps {
    return {
      api: this.#api,
      job: new JobLog(job),
      signal: this.#signal(options),
      progress: options.onProgress ?? (() => {}),
    };
  }
}
