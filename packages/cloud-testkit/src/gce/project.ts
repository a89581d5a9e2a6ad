import { createHash } from "node:crypto";
import { type Cidr, contains, InvalidError, overlaps, parseAddress, parseCidr } from "@cocoon-net/core";
import type { SimulatorClock } from "../clock.ts";
import { type Moment, Table, type Timeline } from "../timeline.ts";
import type { GceBehaviour } from "./behaviour.ts";
import { notFound } from "./gce-fault.ts";
import {
  type GceAlias,
  type GceChange,
  type GceInstance,
  type GceOperation,
  type GceState,
  type GceSubnetwork,
  sameAlias,
} from "./state.ts";

export interface GceLimits {
  /** Alias ranges of one interface, whatever their size (facts §2.3). Default 150. */
  readonly aliasRangesPerNic: number;
  /** Quota ALIASES_PER_NETWORK_GLOBAL (facts §2.3). Default 15,000. */
  readonly aliasRangesPerNetwork: number;
  /** Facts §2.3. Default 170. */
  readonly secondaryRangesPerSubnetwork: number;
  /** Requests per minute of each class (facts §3); undefined = no limit. */
  readonly readsPerMinute: number | undefined;
  readonly writesPerMinute: number | undefined;
  /** Of all classes together (facts §3: `requests_per_region`); undefined = no limit. */
  readonly requestsPerMinute: number | undefined;
  /** Classes of the older accounting (facts §3); undefined = those requests are reads. */
  readonly listsPerMinute: number | undefined;
  readonly operationReadsPerMinute: number | undefined;
  readonly waitsPerMinute: number | undefined;
  /** Changes of one instance or subnetwork (facts §3: RESOURCE_OPERATION_RATE_EXCEEDED); undefined = no limit. */
  readonly changesPerResourcePerMinute: number | undefined;
  /** Length of that "minute", in milliseconds; for tests. Default 60,000. */
  readonly minuteMs: number;
  /** Most that a page of a list holds (facts §1.2). Default 500. */
  readonly pageSize: number;
}

/** How long things take, in milliseconds. */
export interface GceDelays {
  /** PENDING → RUNNING of an operation. */
  readonly pendingMs: number;
  /** RUNNING → DONE. */
  readonly operationMs: number;
  /** Longest that `operations.wait` blocks; it then answers with what there is (facts §1.5). Default 2 minutes. */
  readonly waitMs: number;
  /** How long a completed operation can be asked for (facts §1.5). Default 14 days. */
  readonly retentionMs: number;
  /** Starting, stopping or deleting an instance. */
  readonly instanceMs: number;
  /** From the notice on the metadata server to the end of a preempted instance (facts §4.2). Default 30 seconds. */
  readonly preemptionNoticeMs: number;
  /** How far the metadata server's ip-aliases lag behind the API (facts §4.2). */
  readonly metadataLagMs: number;
  /** How far lists lag behind (facts §3: "eventual consistency"). Default 0. */
  readonly listLagMs: number;
}

export interface GceProjectOptions {
  readonly project: string;
  /** Where the network is: another project for a Shared VPC. */
  readonly networkProject: string;
  readonly limits: GceLimits;
  readonly delays: GceDelays;
  readonly behaviour: GceBehaviour;
  readonly timeline: Timeline<GceChange>;
}

interface Tables {
  readonly instances: Table<GceInstance>;
  readonly subnetworks: Table<GceSubnetwork>;
  readonly operations: Table<GceOperation>;
}

/** The simulated project: its records, who listens to them, and their asynchronous changes. */
export class GceProject {
  readonly project: string;
  readonly number: string = "424242424242";
  readonly networkProject: string;
  readonly limits: GceLimits;
  readonly delays: GceDelays;
  readonly behaviour: GceBehaviour;
  readonly timeline: Timeline<GceChange>;
  readonly #options: GceProjectOptions;
  readonly #tables: Tables;
  #changes = 0;
  #nextID = 1000;

  constructor(options: GceProjectOptions, tables?: Tables) {
    const { timeline } = options;
    this.#options = options;
    this.project = options.project;
    this.networkProject = options.networkProject;
    this.limits = options.limits;
    this.delays = options.delays;
    this.behaviour = options.behaviour;
    this.timeline = timeline;
    this.#tables = tables ?? {
      instances: new Table(timeline),
      subnetworks: new Table(timeline),
      operations: new Table(timeline),
    };
  }

  get clock(): SimulatorClock {
    return this.timeline.clock;
  }
  get instances(): ReadonlyMap<string, GceInstance> {
    return this.#tables.instances.all;
  }
  get subnetworks(): ReadonlyMap<string, GceSubnetwork> {
    return this.#tables.subnetworks.all;
  }
  get operations(): ReadonlyMap<string, GceOperation> {
    return this.#tables.operations.all;
  }
  get networkURL(): string {
    return this.url(`projects/${this.networkProject}/global/networks/default`);
  }

  describe(): GceState {
    return {
      project: this.project,
      instances: [...this.instances.values()],
      subnetworks: [...this.subnetworks.values()],
      operations: [...this.operations.values()],
    };
  }

  /** The project as it was, to read from. */
  asOf(moment: Moment): GceProject {
    const { instances, subnetworks, operations } = this.#tables;
    return new GceProject(this.#options, {
      instances: instances.asOf(moment),
      subnetworks: subnetworks.asOf(moment),
      operations: operations.asOf(moment),
    });
  }

  /** Numeric ids are beyond what a JavaScript number can hold, as real ones are. */
  newID(): string {
    return `73000000000000${String(this.#nextID++).padStart(5, "0")}`;
  }

  url(path: string): string {
    return `https://www.googleapis.com/compute/v1/${path}`;
  }

  /** Base64, as the API's `fingerprint` fields are. */
  fingerprint(content: unknown): string {
    const salt = this.behaviour.fingerprints === "counter" ? ++this.#changes : 0;
    const hash = createHash("sha256").update(JSON.stringify([salt, content]));
    return hash.digest().subarray(0, 8).toString("base64");
  }

  /** Does something later. */
  later(ms: number, run: () => void): void {
    this.timeline.later(ms, run);
  }

  putInstance(id: string, after: GceInstance | undefined): void {
    const before = this.#tables.instances.put(id, after);
    this.timeline.tell({ kind: "instance", before, after });
    const had = before?.nic.aliases ?? [];
    const has = after?.nic.aliases ?? [];
    const tellAliases = (what: "added" | "removed", aliases: readonly GceAlias[]): void => {
      const instance = after ?? before;
      if (instance === undefined) return;
      for (const alias of aliases) this.timeline.tell({ kind: "alias", what, instance, alias });
    };
    tellAliases(
      "removed",
      had.filter((alias) => !has.some((other) => sameAlias(alias, other))),
    );
    tellAliases(
      "added",
      has.filter((alias) => !had.some((other) => sameAlias(alias, other))),
    );
  }

  putSubnetwork(after: GceSubnetwork): void {
    const key = `${after.region}/${after.name}`;
    const before = this.#tables.subnetworks.put(key, after);
    this.timeline.tell({ kind: "subnetwork", before, after });
  }

  putOperation(operation: GceOperation): void {
    this.#tables.operations.put(operation.name, operation);
  }

  dropOperation(name: string): void {
    this.#tables.operations.put(name, undefined);
  }

  /**
   * By name or numeric id: the API takes both in the path ("Must be a match of regex
   * '[a-z]…|[1-9][0-9]{0,19}'", the message it refuses others with).
   */
  findInstance(zone: string, nameOrID: string): GceInstance {
    for (const instance of this.instances.values()) {
      if (instance.zone !== zone) continue;
      if (instance.name === nameOrID || instance.id === nameOrID) return instance;
    }
    throw notFound(`projects/${this.project}/zones/${zone}/instances/${nameOrID}`);
  }

  findSubnetwork(region: string, name: string): GceSubnetwork {
    const found = this.subnetworks.get(`${region}/${name}`);
    if (found !== undefined) return found;
    throw notFound(`projects/${this.networkProject}/regions/${region}/subnetworks/${name}`);
  }

  /** Who holds an address of the block, other than this instance; one VPC, so across all subnetworks (facts §2.2). */
  holderOf(cidr: string, exceptID: string): GceInstance | undefined {
    const block = parseCidr(cidr);
    for (const instance of this.instances.values()) {
      if (instance.id === exceptID) continue;
      const held = [`${instance.nic.address}/32`, ...instance.nic.aliases.map((alias) => alias.cidr)];
      if (held.some((other) => overlaps(parseCidr(other), block))) return instance;
    }
    return undefined;
  }
}

/** Whether an address lies in a block. */
export function holds(block: Cidr, address: string): boolean {
  return contains(block, { base: parseAddress(address), prefix: 32 });
}

/** Undefined for what is no CIDR in normal form. */
export function readCidr(text: string): Cidr | undefined {
  try {
    return parseCidr(text);
  } catch (error) {
    if (error instanceof InvalidError) return undefined;
    throw error;
  }
}
