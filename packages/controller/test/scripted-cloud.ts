import {
  type Cloud,
  type CloudCallOptions,
  type CloudJob,
  type CloudLimits,
  type CloudResource,
  ConflictError,
  ExhaustedError,
  type FenceResult,
  type InstanceIdentity,
  type InstanceState,
  type MoveRequest,
  type MoveResult,
  type NodeNetwork,
  type NodeResources,
  type ReleaseResult,
  UnavailableError,
} from "@cocoon-net/core";

export interface Nic {
  readonly subnet: string;
  instanceID: string | undefined;
}

/** The VPC that every controller's cloud talks to. */
export class ScriptedVpc {
  readonly instances = new Map<string, InstanceState | "throws">();
  readonly nics = new Map<string, Nic>();
  /** Who holds an address that is not where its block is; undefined: nobody. */
  readonly holders = new Map<string, string | undefined>();
  /** What changed the VPC, e.g. `ctl-a detach eni-n1-0`. */
  readonly mutations: string[] = [];
  /** Every call, e.g. `ctl-a describe i-n1`. */
  readonly calls: string[] = [];
  /** NICs that a delete leaves behind. */
  readonly stuck = new Set<string>();
  /** Nodes that have no room for one more address. */
  readonly full = new Set<string>();
  /** NICs that a release has kept. */
  readonly warm = new Set<string>();
  /** Reads after a detach still show the NIC attached. */
  stale = false;
  /** Runs before each call and each change. */
  before: (call: string) => void | Promise<void> = () => {};

  /** The instance whose NICs bring the block that the address lies in. */
  homeOf(address: string): string | undefined {
    const block = `${address.slice(0, address.lastIndexOf("."))}.0/24`;
    for (const nic of this.nics.values()) if (nic.subnet === block) return nic.instanceID;
    return undefined;
  }
}

/** One controller's view of it. `dead`: the process is gone, nothing it sends arrives. */
export class ScriptedCloud implements Cloud {
  readonly platform = "scripted";
  readonly #vpc: ScriptedVpc;
  readonly #who: string;
  dead = false;

  constructor(vpc: ScriptedVpc, who: string) {
    this.#vpc = vpc;
    this.#who = who;
  }

  async describeSelf(): Promise<InstanceIdentity> {
    throw new UnavailableError("a controller is no node", { outcome: "none" });
  }

  async describeInstance(instanceID: string, options?: CloudCallOptions): Promise<InstanceState> {
    await this.#call(`describe ${instanceID}`, options);
    const state = this.#vpc.instances.get(instanceID) ?? "gone";
    if (state === "throws") throw new UnavailableError(`${instanceID}: no answer`, { outcome: "none" });
    return state;
  }

  async provision(): Promise<NodeNetwork> {
    throw new UnavailableError("a controller provisions nothing", { outcome: "none" });
  }

  async fence(target: NodeResources, job: CloudJob, options?: CloudCallOptions): Promise<FenceResult> {
    await this.#call(`fence ${target.node}`, options);
    for (const id of target.eniIDs) {
      const nic = this.#vpc.nics.get(id);
      if (nic?.instanceID === undefined) continue;
      await this.#change(job, "detach", id, options, () => {
        nic.instanceID = undefined;
      });
    }
    for (const ip of target.movedIn ?? []) {
      if (this.#vpc.holders.get(ip) !== target.instanceID) continue;
      await this.#change(job, "unassign", ip, options, () => this.#vpc.holders.set(ip, undefined));
    }
    const isHeld = (id: string) =>
      (this.#vpc.nics.get(id)?.instanceID ?? this.#vpc.holders.get(id)) !== undefined;
    const all = [...target.eniIDs, ...(target.movedIn ?? [])];
    const held = this.#vpc.stale ? all : all.filter(isHeld);
    return {
      verified: held.length === 0,
      evidence: held.length === 0 ? "no NIC is attached" : `${held} attached`,
    };
  }

  async release(target: NodeResources, job: CloudJob, options?: CloudCallOptions): Promise<ReleaseResult> {
    await this.#call(`release ${target.node}`, options);
    const remaining: { id: string; reason: string }[] = [];
    const warm: string[] = [];
    for (const id of target.eniIDs) {
      const nic = this.#vpc.nics.get(id);
      if (!nic) continue;
      if (nic.instanceID !== undefined || this.#vpc.stuck.has(id)) {
        remaining.push({ id, reason: "in use" });
        continue;
      }
      if (warm.length < (target.keepWarm ?? 0)) {
        warm.push(id);
        this.#vpc.warm.add(id);
        continue;
      }
      await this.#change(job, "delete", id, options, () => this.#vpc.nics.delete(id));
    }
    return { released: target.eniIDs.filter((id) => !this.#vpc.nics.has(id)), warm, remaining };
  }

  async describeLimits(): Promise<CloudLimits> {
    throw new UnavailableError("a controller asks for no limits", { outcome: "none" });
  }

  async shrink(
    target: NodeResources,
    addresses: readonly string[],
    job: CloudJob,
    options?: CloudCallOptions,
  ): Promise<NodeNetwork> {
    await this.#call(`shrink ${target.node}`, options);
    for (const ip of addresses) {
      if (this.#vpc.holders.get(ip) !== target.instanceID) continue;
      await this.#change(job, "unassign", ip, options, () => this.#vpc.holders.set(ip, undefined));
    }
    return { addresses: [], eniIDs: target.eniIDs, nicMACs: [] };
  }

  /** An address goes from one instance to nobody, and from there to the other. */
  async move(
    { address, from, to }: MoveRequest,
    job: CloudJob,
    options?: CloudCallOptions,
  ): Promise<MoveResult> {
    await this.#call(`move ${address} ${from.node} ${to.node}`, options);
    const { holders } = this.#vpc;
    if (this.#vpc.full.has(to.node)) throw new ExhaustedError(`${to.node} has no room for ${address}`);
    const holder = () => (holders.has(address) ? holders.get(address) : this.#vpc.homeOf(address));
    const now = holder();
    if (now !== undefined && now !== from.instanceID && now !== to.instanceID) {
      throw new ConflictError(`${address} is held by ${now}`);
    }
    if (now === from.instanceID) {
      await this.#change(job, "unassign", address, options, () => holders.set(address, undefined));
    }
    if (holder() !== to.instanceID) {
      await this.#change(job, "assign", address, options, () => {
        if (to.instanceID === this.#vpc.homeOf(address)) holders.delete(address);
        else holders.set(address, to.instanceID);
      });
    }
    const verified = holder() === to.instanceID && !this.#vpc.stale;
    return {
      verified,
      evidence: `${address} is held by ${holder()}`,
      network: { addresses: [address], eniIDs: to.eniIDs, nicMACs: [] },
    };
  }

  async listResources(_request: unknown, options?: CloudCallOptions): Promise<readonly CloudResource[]> {
    await this.#call("list", options);
    const nics = [...this.#vpc.nics].map(
      ([id, nic]): CloudResource => ({
        id,
        kind: "nic",
        node: undefined,
        madeFor: undefined,
        instanceID: nic.instanceID,
        addresses: [nic.subnet],
        warm: this.#vpc.warm.has(id),
      }),
    );
    const moved = [...this.#vpc.holders].map(
      ([ip, instanceID]): CloudResource => ({
        id: `moved-${ip}`,
        kind: "alias",
        node: undefined,
        madeFor: undefined,
        instanceID,
        addresses: [ip],
        warm: false,
      }),
    );
    return [...nics, ...moved.filter(({ instanceID }) => instanceID !== undefined)];
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #change(
    job: CloudJob,
    action: string,
    id: string,
    options: CloudCallOptions | undefined,
    apply: () => void,
  ): Promise<void> {
    await job.record({ action, phase: "intent", key: id });
    await this.#call(`${action} ${id}`, options);
    this.#vpc.mutations.push(`${this.#who} ${action} ${id}`);
    apply();
    await job.record({ action, phase: "done", key: id });
  }

  async #call(what: string, options?: CloudCallOptions): Promise<void> {
    const call = `${this.#who} ${what}`;
    this.#vpc.calls.push(call);
    await this.#vpc.before(call);
    if (this.dead) await aborted(options?.signal);
    options?.signal?.throwIfAborted();
  }
}

function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const fail = () => reject(signal?.reason);
    if (signal?.aborted) fail();
    else signal?.addEventListener("abort", fail, { once: true });
  });
}
