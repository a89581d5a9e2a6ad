import {
  type Cloud,
  type CloudCallOptions,
  type CloudJob,
  type FenceResult,
  type InstanceIdentity,
  type InstanceState,
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
  /** What changed the VPC, e.g. `ctl-a detach eni-n1-0`. */
  readonly mutations: string[] = [];
  /** Every call, e.g. `ctl-a describe i-n1`. */
  readonly calls: string[] = [];
  /** NICs that a delete leaves behind. */
  readonly stuck = new Set<string>();
  /** Reads after a detach still show the NIC attached. */
  stale = false;
  /** Runs before each call and each change. */
  before: (call: string) => void | Promise<void> = () => {};
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
    const held = this.#vpc.stale
      ? [...target.eniIDs]
      : target.eniIDs.filter((id) => this.#vpc.nics.get(id)?.instanceID !== undefined);
    return {
      verified: held.length === 0,
      evidence: held.length === 0 ? "no NIC is attached" : `${held} attached`,
    };
  }

  async release(target: NodeResources, job: CloudJob, options?: CloudCallOptions): Promise<ReleaseResult> {
    await this.#call(`release ${target.node}`, options);
    const remaining: { id: string; reason: string }[] = [];
    for (const id of target.eniIDs) {
      const nic = this.#vpc.nics.get(id);
      if (!nic) continue;
      if (nic.instanceID !== undefined || this.#vpc.stuck.has(id)) {
        remaining.push({ id, reason: "in use" });
        continue;
      }
      await this.#change(job, "delete", id, options, () => this.#vpc.nics.delete(id));
    }
    return { released: target.eniIDs.filter((id) => !this.#vpc.nics.has(id)), remaining };
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
