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
import { VolcengineApi } from "./api.ts";
import type { Steps } from "./eni-changes.ts";
import { fence } from "./fence.ts";
import { describeInstance } from "./instance-state.ts";
import { JobLog } from "./job-log.ts";
import { Metadata } from "./metadata.ts";
import { provision } from "./provision.ts";
import { release } from "./release.ts";
import { apiEndpoint, type Environment, loadCredentials, metadataEndpoint } from "./settings.ts";
import { defaultTiming, type Timing } from "./timing.ts";

/** Secondary addresses on ENIs, through the vpc and ecs APIs (version 2020-04-01). */
export class VolcengineCloud implements Cloud {
  readonly platform = "volcengine";
  readonly #api: VolcengineApi;
  readonly #metadata: Metadata;
  readonly #closing = new AbortController();

  /** @throws {InvalidError} when an endpoint in the environment is malformed */
  constructor(env: Environment, timing: Timing = defaultTiming) {
    const credentials = () => loadCredentials(env);
    this.#api = new VolcengineApi({ endpoint: apiEndpoint(env), credentials, timing });
    this.#metadata = new Metadata(metadataEndpoint(env), timing);
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
    this.#closing.abort(new Error("the Volcengine cloud was closed"));
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
