import {
  type CallPurpose,
  type Cloud,
  CloudBudget,
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
  type OpenCloudOptions,
  type ProvisionRequest,
  type ReleaseResult,
} from "@cocoon-net/core";
import { Requests, type VolcengineApiOptions } from "./api.ts";
import { CredentialSource } from "./credentials.ts";
import { fence } from "./fence.ts";
import { describeInstance } from "./instance-state.ts";
import { describeLimits, LimitsBook } from "./limits.ts";
import { listResources } from "./list-resources.ts";
import { Metadata } from "./metadata.ts";
import { move } from "./move.ts";
import { provision } from "./provision.ts";
import { release } from "./release.ts";
import { apiEndpoint, type Environment, metadataEndpoint } from "./settings.ts";
import { shrink } from "./shrink.ts";
import type { Steps } from "./steps.ts";
import { defaultTiming, type Timing } from "./timing.ts";

export interface VolcengineCloudOptions extends Omit<OpenCloudOptions, "env"> {
  readonly timing?: Timing;
}

/** Secondary addresses on ENIs, through the vpc and ecs APIs (version 2020-04-01). */
export class VolcengineCloud implements Cloud {
  readonly platform = "volcengine";
  readonly #api: VolcengineApiOptions;
  readonly #metadata: Metadata;
  readonly #limits = new LimitsBook();
  readonly #closing = new AbortController();

  /** @throws {InvalidError} when an endpoint in the environment is malformed */
  constructor(env: Environment, options: VolcengineCloudOptions = {}) {
    const { timing = defaultTiming, budget = new CloudBudget(), onCall } = options;
    this.#metadata = new Metadata(metadataEndpoint(env), timing);
    const credentials = new CredentialSource(env, this.#metadata);
    this.#api = { endpoint: apiEndpoint(env), credentials, timing, budget, onCall, changeTimes: new Map() };
  }

  async describeSelf(options: CloudCallOptions = {}): Promise<InstanceIdentity> {
    return await this.#metadata.identity(this.#signal(options));
  }

  async describeInstance(instanceID: string, options: CloudCallOptions = {}): Promise<InstanceState> {
    return await describeInstance(this.#requests(options, "release"), instanceID, progressOf(options));
  }

  async describeLimits(instance: InstanceIdentity, options: CloudCallOptions = {}): Promise<CloudLimits> {
    const api = this.#requests(options, "allocate");
    return await describeLimits(api, this.#limits, instance.instanceID, progressOf(options));
  }

  async provision(
    request: ProvisionRequest,
    job: CloudJob,
    options: CloudCallOptions = {},
  ): Promise<NodeNetwork> {
    return await provision(this.#steps(job, options, "allocate"), request);
  }

  async shrink(
    target: NodeResources,
    addresses: readonly string[],
    job: CloudJob,
    options: CloudCallOptions = {},
  ): Promise<NodeNetwork> {
    return await shrink(this.#steps(job, options, "release"), target, addresses);
  }

  async move(request: MoveRequest, job: CloudJob, options: CloudCallOptions = {}): Promise<MoveResult> {
    return await move(this.#steps(job, options, "allocate"), request);
  }

  async listResources(
    request: ListResourcesRequest,
    options: CloudCallOptions = {},
  ): Promise<readonly CloudResource[]> {
    return await listResources(this.#requests(options, "clean-up"), request);
  }

  async fence(target: NodeResources, job: CloudJob, options: CloudCallOptions = {}): Promise<FenceResult> {
    return await fence(this.#steps(job, options, "fence"), target);
  }

  async release(
    target: NodeResources,
    job: CloudJob,
    options: CloudCallOptions = {},
  ): Promise<ReleaseResult> {
    return await release(this.#steps(job, options, "release"), target);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Error("the Volcengine cloud was closed"));
  }

  #signal(options: CloudCallOptions): AbortSignal {
    const closing = this.#closing.signal;
    return options.signal === undefined ? closing : AbortSignal.any([closing, options.signal]);
  }

  #requests(options: CloudCallOptions, purpose: CallPurpose): Requests {
    const scope = { purpose: options.purpose ?? purpose, signal: this.#signal(options) };
    return new Requests(this.#api, scope);
  }

  #steps(job: CloudJob, options: CloudCallOptions, purpose: CallPurpose): Steps {
    return {
      api: this.#requests(options, purpose),
      job: new JobLog(job),
      limits: this.#limits,
      progress: progressOf(options),
    };
  }
}

function progressOf(options: CloudCallOptions): (message: string) => void {
  return options.onProgress ?? (() => {});
}
