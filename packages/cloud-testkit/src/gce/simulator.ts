import { InvalidError, parseCidr } from "@cocoon-net/core";
import { chosen } from "../choices.ts";
import { type SimulatorClock, systemClock } from "../clock.ts";
import { Faults } from "../faults.ts";
import type { HttpHandler, ListenAddress } from "../http-listener.ts";
import { type InstanceControl, inspect } from "../inspection.ts";
import { seededRandom } from "../random.ts";
import { CloudSimulator, type CommonOptions, type Listening } from "../simulator.ts";
import { Timeline } from "../timeline.ts";
import { GceAccess } from "./access.ts";
import { GceApi, isRead, methodNames } from "./api.ts";
import { behaviourChoices, type GceBehaviour } from "./behaviour.ts";
import { faultReasons } from "./gce-fault.ts";
import {
  type AddGceInstanceOptions,
  addInstance,
  deleteInstance,
  instanceNamed,
  preemptInstance,
  startInstance,
  stopInstance,
} from "./instances.ts";
import { GceMetadata } from "./metadata.ts";
import { GceOperations } from "./operations.ts";
import { type GceDelays, type GceLimits, GceProject } from "./project.ts";
import { type GceAlias, type GceChange, type GceInstance, type GceState, sameAlias } from "./state.ts";
import { instancePath } from "./wire.ts";

export interface GceSimulatorOptions extends CommonOptions, Partial<GceBehaviour> {
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
}

export interface GceMetadataListenAddress extends ListenAddress {
  /** Name or id: answers as this instance whoever asks; default: by the source address of the connection. */
  readonly instance?: string;
}

export interface GceListenOptions {
  readonly api?: ListenAddress;
  readonly metadata?: GceMetadataListenAddress;
}

export const defaultLimits: GceLimits = {
  aliasRangesPerNic: 150,
  aliasRangesPerNetwork: 15_000,
  secondaryRangesPerSubnetwork: 170,
  readsPerMinute: undefined,
  writesPerMinute: undefined,
  requestsPerMinute: undefined,
  listsPerMinute: undefined,
  operationReadsPerMinute: undefined,
  waitsPerMinute: undefined,
  changesPerResourcePerMinute: undefined,
  minuteMs: 60_000,
  pageSize: 500,
};

export const defaultDelays: GceDelays = {
  pendingMs: 100,
  operationMs: 1000,
  waitMs: 120_000,
  retentionMs: 14 * 24 * 3_600_000,
  instanceMs: 500,
  preemptionNoticeMs: 30_000,
  metadataLagMs: 0,
  listLagMs: 0,
};

/**
 * One Google Cloud project in one region: the part of the Compute Engine REST API (v1) that alias ranges need, and
 * the metadata server, over HTTP, on state kept in memory. Written against the published behaviour; each rule names
 * its source.
 */
export class GceSimulator extends CloudSimulator<GceState, GceChange> {
  readonly region: string;
  readonly zone: string;
  readonly project: string;
  readonly #project: GceProject;
  readonly #access: GceAccess;
  readonly #operations: GceOperations;
  readonly #api: GceApi;
  readonly #metadata: GceMetadata;

  /** @throws {InvalidError} on a malformed CIDR */
  constructor(options: GceSimulatorOptions = {}) {
    const random = seededRandom(options.seed ?? 1);
    const clock = options.clock ?? systemClock;
    const timeline = new Timeline<GceChange>({ clock, random, jitter: options.jitter ?? 0 });
    const faults = new Faults({
      actions: methodNames,
      codes: faultReasons,
      isRead,
      random,
      now: () => timeline.moment,
    });
    super(timeline, faults);
    this.region = options.region ?? "us-central1";
    this.zone = options.zone ?? `${this.region}-a`;
    this.project = options.project ?? "demo-project";
    this.#project = new GceProject({
      project: this.project,
      networkProject: options.networkProject ?? this.project,
      limits: { ...defaultLimits, ...options.limits },
      delays: { ...defaultDelays, ...options.delays },
      behaviour: chosen(behaviourChoices, options),
      timeline,
    });
    this.#access = new GceAccess(this.#project, options.tokens ?? [], options.denied ?? []);
    this.#operations = new GceOperations(this.#project);
    this.#api = new GceApi(this.#project, {
      operations: this.#operations,
      access: this.#access,
      faults,
      calls: this.callLog,
    });
    this.#metadata = new GceMetadata(this.#project, this.#access);
    this.addSubnetwork({
      name: "nodes",
      cidr: options.nodeRange ?? "10.128.0.0/20",
      secondaryRanges: options.secondaryRanges ?? {},
    });
  }

  /** Opens the HTTP endpoints that are named; may be called again for more. Port 0 takes a free one. */
  async listen(options: GceListenOptions): Promise<Listening> {
    const { api, metadata } = options;
    const control = this.#instanceControl();
    return {
      api:
        api &&
        (await this.open(api, (request) => inspect(this, control, request) ?? this.#api.answer(request))),
      metadata: metadata && (await this.open(metadata, this.#metadataHandler(metadata))),
    };
  }

  override describeState(): GceState {
    return this.#project.describe();
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

  /**
   * Spot capacity is taken back: the metadata server says so until the instance is TERMINATED, and an operation of the
   * platform's tells of it (facts §4.2).
   */
  preemptInstance(nameOrID: string): void {
    const instance = instanceNamed(this.#project, nameOrID);
    preemptInstance(this.#project, nameOrID);
    const target = { link: instancePath(this.#project, instance), id: instance.id };
    this.#operations.record("compute.instances.preempted", { kind: "zones", name: instance.zone }, target);
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

  #instanceControl(): InstanceControl {
    return {
      options: ["name", "zone", "subnetwork", "address", "mac"],
      add: (options) => this.addInstance(options),
      verbs: {
        stop: (name) => this.stopInstance(name),
        start: (name) => this.startInstance(name),
        preempt: (name) => this.preemptInstance(name),
        delete: (name) => this.deleteInstance(name),
      },
      find: (name) =>
        this.describeState().instances.find((instance) => instance.name === name || instance.id === name),
    };
  }
}
