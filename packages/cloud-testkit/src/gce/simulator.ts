import { InvalidError, parseCidr } from "@cocoon-net/core";
import { type SimulatorClock, systemClock } from "../clock.ts";
import { type FaultRule, Faults } from "../faults.ts";
import { type HttpHandler, HttpListener, type ListenAddress } from "../http-listener.ts";
import { GceAccess } from "./access.ts";
import { GceApi, isRead } from "./api.ts";
import { inspect } from "./inspection.ts";
import {
  type AddGceInstanceOptions,
  addInstance,
  deleteInstance,
  instanceNamed,
  startInstance,
  stopInstance,
} from "./instances.ts";
import { GceMetadata } from "./metadata.ts";
import { type GceDelays, type GceLimits, GceProject } from "./project.ts";
import { type GceAlias, type GceChange, type GceInstance, type GceState, sameAlias } from "./state.ts";

export interface GceSimulatorOptions {
  /** Default `demo-project`. */
  readonly project?: string;
  /** Host project of a Shared VPC. Default: the project itself. */
  readonly networkProject?: string;
  /** Default `us-central1`. */
  readonly region?: string;
  /** Default: the region with `-a`. */
  readonly zone?: string;
  /** Primary range of the subnetwork `nodes`. Default `10.128.0.0/20`. */
  readonly nodeRange?: string;
  /** Secondary ranges of the subnetwork `nodes`, by name. Default none. */
  readonly secondaryRanges?: Readonly<Record<string, string>>;
  /** Bearer tokens that are accepted beside those of the metadata server. */
  readonly tokens?: readonly string[];
  /** Permissions that nobody has, e.g. `compute.subnetworks.update`. */
  readonly denied?: readonly string[];
  readonly clock?: SimulatorClock;
  readonly limits?: Partial<GceLimits>;
  readonly delays?: Partial<GceDelays>;
  /** HTTP status of a refusal for the rate (facts §1.6 has both). Default 403. */
  readonly throttleStatus?: 403 | 429;
  /** Whether equal contents have equal fingerprints, which is not documented. Default `counter`: never equal. */
  readonly fingerprints?: "content" | "counter";
}

export interface GceMetadataListenAddress extends ListenAddress {
  /** Name or id: answers as this instance whoever asks; default: by the source address of the connection. */
  readonly instance?: string;
}

export interface GceListenOptions {
  readonly api?: ListenAddress;
  readonly metadata?: GceMetadataListenAddress;
}

export interface GceListening {
  /** `http://127.0.0.1:43210`, with the real port. */
  readonly api: string | undefined;
  readonly metadata: string | undefined;
}

const defaultLimits: GceLimits = {
  aliasRangesPerNic: 150,
  aliasRangesPerNetwork: 15_000,
  secondaryRangesPerSubnetwork: 170,
  readsPerMinute: undefined,
  writesPerMinute: undefined,
  minuteMs: 60_000,
  pageSize: 500,
};

const defaultDelays: GceDelays = {
  pendingMs: 100,
  operationMs: 1000,
  waitMs: 120_000,
  retentionMs: 14 * 24 * 3_600_000,
  instanceMs: 500,
  metadataLagMs: 0,
};

/**
 * One Google Cloud project in one region: the part of the Compute Engine REST API (v1) that alias ranges need, and
 * the metadata server, over HTTP, on state kept in memory. Written against the published behaviour; each rule names
 * its source.
 */
export class GceSimulator implements AsyncDisposable {
  readonly region: string;
  readonly zone: string;
  readonly project: string;
  readonly #project: GceProject;
  readonly #access: GceAccess;
  readonly #faults = new Faults(isRead);
  readonly #api: GceApi;
  readonly #metadata: GceMetadata;
  readonly #listeners: HttpListener[] = [];

  /** @throws {InvalidError} on a malformed CIDR */
  constructor(options: GceSimulatorOptions = {}) {
    this.region = options.region ?? "us-central1";
    this.zone = options.zone ?? `${this.region}-a`;
    this.project = options.project ?? "demo-project";
    this.#project = new GceProject({
      project: this.project,
      networkProject: options.networkProject ?? this.project,
      limits: { ...defaultLimits, ...options.limits },
      delays: { ...defaultDelays, ...options.delays },
      clock: options.clock ?? systemClock,
      fingerprints: options.fingerprints ?? "counter",
    });
    this.#access = new GceAccess(this.#project, options.tokens ?? [], options.denied ?? []);
    this.#api = new GceApi(this.#project, this.#access, this.#faults, options.throttleStatus ?? 403);
    this.#metadata = new GceMetadata(this.#project, this.#access);
    this.addSubnetwork({
      name: "nodes",
      cidr: options.nodeRange ?? "10.128.0.0/20",
      secondaryRanges: options.secondaryRanges ?? {},
    });
  }

  /** Opens the HTTP endpoints that are named; may be called again for more. Port 0 takes a free one. */
  async listen(options: GceListenOptions): Promise<GceListening> {
    const { api, metadata } = options;
    return {
      api: api && (await this.#open(api, (request) => inspect(this, request) ?? this.#api.answer(request))),
      metadata: metadata && (await this.#open(metadata, this.#metadataHandler(metadata))),
    };
  }

  /** Everything as it truly is, whatever the API shows. */
  describeState(): GceState {
    return this.#project.describe();
  }

  /** Requests so far by method (`instances.get`), refused ones included. */
  get calls(): Readonly<Record<string, number>> {
    return this.#api.calls;
  }

  /** Calls `listener` synchronously after each change; the returned function ends that. */
  onChange(listener: (change: GceChange) => void): () => void {
    return this.#project.onChange(listener);
  }

  injectFault(rule: FaultRule): void {
    this.#faults.add(rule);
  }

  clearFaults(): void {
    this.#faults.clear();
  }

  /** From now on, tokens that were issued before are refused. */
  revokeTokens(): void {
    this.#access.revokeAll();
  }

  /** A RUNNING instance. @throws {InvalidError} when the name or address is taken */
  addInstance(options: AddGceInstanceOptions = {}): GceInstance {
    return addInstance(this.#project, { zone: this.zone }, options);
  }

  /** RUNNING → STOPPING → TERMINATED; aliases stay. By name or id. @throws {NotFoundError} */
  stopInstance(nameOrID: string): void {
    stopInstance(this.#project, nameOrID);
  }

  /** Spot capacity is taken back: the metadata server says so until the instance is TERMINATED. */
  preemptInstance(nameOrID: string): void {
    stopInstance(this.#project, nameOrID, true);
  }

  /** TERMINATED → STAGING → RUNNING. @throws {NotFoundError} */
  startInstance(nameOrID: string): void {
    startInstance(this.#project, nameOrID);
  }

  /** STOPPING → gone, with its aliases. @throws {NotFoundError} */
  deleteInstance(nameOrID: string): void {
    deleteInstance(this.#project, nameOrID);
  }

  /** A subnetwork of the region. */
  addSubnetwork(options: {
    name: string;
    cidr: string;
    secondaryRanges?: Readonly<Record<string, string>>;
  }): void {
    parseCidr(options.cidr);
    const ranges = Object.entries(options.secondaryRanges ?? {});
    const secondaryRanges = ranges.map(([rangeName, cidr]) => ({ rangeName, cidr }));
    for (const { cidr } of secondaryRanges) parseCidr(cidr);
    this.#project.putSubnetwork({
      id: this.#project.newID(),
      name: options.name,
      region: this.region,
      network: this.#project.networkURL,
      cidr: options.cidr,
      secondaryRanges,
      fingerprint: this.#project.fingerprint([options.name, secondaryRanges]),
      createdAt: this.#project.clock.now(),
    });
  }

  /** Somebody else adds an alias to the instance, at once. @throws {InvalidError} when an address is in use */
  addAlias(nameOrID: string, alias: GceAlias): void {
    const instance = instanceNamed(this.#project, nameOrID);
    const holder = this.#project.holderOf(alias.cidr, instance.id);
    if (holder !== undefined) throw new InvalidError(`${holder.name} holds addresses of ${alias.cidr}`);
    this.#setAliases(instance, [...instance.nic.aliases, alias]);
  }

  /** Somebody else takes an alias off the instance, at once. */
  removeAlias(nameOrID: string, alias: GceAlias): void {
    const instance = instanceNamed(this.#project, nameOrID);
    this.#setAliases(
      instance,
      instance.nic.aliases.filter((held) => !sameAlias(held, alias)),
    );
  }

  /** Closes the endpoints and drops changes under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#project.close();
    await Promise.all(this.#listeners.splice(0).map((listener) => listener[Symbol.asyncDispose]()));
  }

  #setAliases(instance: GceInstance, aliases: readonly GceAlias[]): void {
    const fingerprint = this.#project.fingerprint([instance.name, aliases]);
    this.#project.putInstance(instance.id, {
      ...instance,
      nic: { ...instance.nic, aliases, fingerprint },
    });
  }

  #metadataHandler({ instance }: GceMetadataListenAddress): HttpHandler {
    const fixed = instance === undefined ? undefined : instanceNamed(this.#project, instance).id;
    return (request, from) => this.#metadata.answer(fixed ?? this.#metadata.instanceAt(from), request);
  }

  async #open(address: ListenAddress, handler: HttpHandler): Promise<string> {
    const listener = await HttpListener.open(address, handler);
    this.#listeners.push(listener);
    return listener.url;
  }
}
