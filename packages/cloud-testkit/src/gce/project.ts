import { createHash } from "node:crypto";
import { type Cidr, contains, InvalidError, overlaps, parseAddress, parseCidr } from "@cocoon-net/core";
import type { SimulatorClock } from "../clock.ts";
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
  /** Requests per minute (facts §3); undefined = no limit. Operation waits count as reads. */
  readonly readsPerMinute: number | undefined;
  readonly writesPerMinute: number | undefined;
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
  /** How far the metadata server's ip-aliases lag behind the API (facts §4.2). */
  readonly metadataLagMs: number;
}

export interface GceProjectOptions {
  readonly project: string;
  /** Where the network is: another project for a Shared VPC. */
  readonly networkProject: string;
  readonly limits: GceLimits;
  readonly delays: GceDelays;
  readonly clock: SimulatorClock;
  /** `content`: equal contents have equal fingerprints; `counter`: every change makes a new one. */
  readonly fingerprints: "content" | "counter";
}

/** The simulated project: its records, who listens to them, and their asynchronous changes. */
export class GceProject {
  readonly project: string;
  readonly number: string = "424242424242";
  readonly networkProject: string;
  readonly limits: GceLimits;
  readonly delays: GceDelays;
  readonly clock: SimulatorClock;
  readonly #fingerprints: "content" | "counter";
  readonly #instances = new Map<string, GceInstance>();
  readonly #subnetworks = new Map<string, GceSubnetwork>();
  readonly #operations = new Map<string, GceOperation>();
  readonly #listeners = new Set<(change: GceChange) => void>();
  readonly #pending = new Set<() => void>();
  #changes = 0;
  #nextID = 1000;

  constructor(options: GceProjectOptions) {
    this.project = options.project;
    this.networkProject = options.networkProject;
    this.limits = options.limits;
    this.delays = options.delays;
    this.clock = options.clock;
    this.#fingerprints = options.fingerprints;
  }

  get instances(): ReadonlyMap<string, GceInstance> {
    return this.#instances;
  }
  get subnetworks(): ReadonlyMap<string, GceSubnetwork> {
    return this.#subnetworks;
  }
  get operations(): ReadonlyMap<string, GceOperation> {
    return this.#operations;
  }
  get networkURL(): string {
    return this.url(`projects/${this.networkProject}/global/networks/default`);
  }

  describe(): GceState {
    return {
      project: this.project,
      instances: [...this.#instances.values()],
      subnetworks: [...this.#subnetworks.values()],
      operations: [...this.#operations.values()],
    };
  }

  onChange(listener: (change: GceChange) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
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
    const salt = this.#fingerprints === "counter" ? ++this.#changes : 0;
    const hash = createHash("sha256").update(JSON.stringify([salt, content]));
    return hash.digest().subarray(0, 8).toString("base64");
  }

  /** Does something later; dropped when the simulator is closed. */
  later(ms: number, run: () => void): void {
    const cancel = this.clock.after(ms, () => {
      this.#pending.delete(cancel);
      run();
    });
    this.#pending.add(cancel);
  }

  close(): void {
    for (const cancel of this.#pending) cancel();
    this.#pending.clear();
    this.#listeners.clear();
  }

  putInstance(id: string, after: GceInstance | undefined): void {
    const before = this.#instances.get(id);
    if (after === undefined) this.#instances.delete(id);
    else this.#instances.set(id, after);
    this.#tell({ kind: "instance", before, after });
    const had = before?.nic.aliases ?? [];
    const has = after?.nic.aliases ?? [];
    const tellAliases = (what: "added" | "removed", aliases: readonly GceAlias[]): void => {
      const instance = after ?? before;
      if (instance === undefined) return;
      for (const alias of aliases) this.#tell({ kind: "alias", what, instance, alias });
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
    const before = this.#subnetworks.get(key);
    this.#subnetworks.set(key, after);
    this.#tell({ kind: "subnetwork", before, after });
  }

  putOperation(operation: GceOperation): void {
    this.#operations.set(operation.name, operation);
  }

  dropOperation(name: string): void {
    this.#operations.delete(name);
  }

  /**
   * By name or numeric id: the API takes both in the path ("Must be a match of regex
   * '[a-z]…|[1-9][0-9]{0,19}'", the message it refuses others with).
   */
  findInstance(zone: string, nameOrID: string): GceInstance {
    for (const instance of this.#instances.values()) {
      if (instance.zone !== zone) continue;
      if (instance.name === nameOrID || instance.id === nameOrID) return instance;
    }
    throw notFound(`projects/${this.project}/zones/${zone}/instances/${nameOrID}`);
  }

  findSubnetwork(region: string, name: string): GceSubnetwork {
    const found = this.#subnetworks.get(`${region}/${name}`);
    if (found !== undefined) return found;
    throw notFound(`projects/${this.networkProject}/regions/${region}/subnetworks/${name}`);
  }

  /** Who holds an address of the block, other than this instance; one VPC, so across all subnetworks (facts §2.2). */
  holderOf(cidr: string, exceptID: string): GceInstance | undefined {
    const block = parseCidr(cidr);
    for (const instance of this.#instances.values()) {
      if (instance.id === exceptID) continue;
      const held = [`${instance.nic.address}/32`, ...instance.nic.aliases.map((alias) => alias.cidr)];
      if (held.some((other) => overlaps(parseCidr(other), block))) return instance;
    }
    return undefined;
  }

  #tell(change: GceChange): void {
    for (const listener of [...this.#listeners]) listener(change);
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
