import { Backoff } from "./backoff.ts";
import { type Claimant, mostSlots, type Situation, withdrawClaim } from "./claim.ts";
import { claimSome } from "./claim-choice.ts";
import { type ClusterView, readCluster, viewOf } from "./cluster-config.ts";
import { ConflictError, FencedError, InvalidError, UnavailableError } from "./errors.ts";
import { lowestFreeSlot } from "./free-slots.ts";
import { type Cidr, formatCidr, parseCidr } from "./ipv4.ts";
import { keys } from "./keys.ts";
import { decode, nodeSchema } from "./model.ts";
import { Recovery } from "./recovery.ts";
import { RecoveringError, type RecoveryWaitOptions, untilRecovered } from "./recovery-wait.ts";
import { Registration, type RegistrationFields } from "./registration.ts";
import { checkSubnet, slotsOf } from "./slots.ts";
import type { CallOptions, Entry, Revision, Store } from "./store.ts";

export interface RegisterRequest extends Claimant {
  /**
   * The block to own; without it the node gets its quarantined one back, else a free slot: the
   * lowest, unless many join or the cluster is large.
   */
  readonly subnet?: string | undefined;
  /** The cluster that the node belongs to already: it joins no other one. */
  readonly clusterUID?: string | undefined;
  /** What the node has on record as its own: where the store has lost that, it is asserted again. */
  readonly former?: Pick<RegistrationFields, "subnet" | "epoch" | "incarnation"> | undefined;
}

export type RegisterOptions = RecoveryWaitOptions;

export interface RegistryOptions extends Pick<RegistrationFields, "onChanged"> {
  readonly now?: (() => Date) | undefined;
  /** Milliseconds that only grow; default `performance.now`. */
  readonly monotonic?: (() => number) | undefined;
}

interface Attempt {
  /** The incarnation in which a free subnet was last tried for: if that is lost, so is the claim. */
  claimedIn: string | undefined;
  former: RegisterRequest["former"];
}

const rounds = 8;
/** Pauses: where something has changed under a claim, and where the store was not heard, which more haste makes worse. */
const changedPauses = { firstMs: 20, maxMs: 2_000 };
const unheardPauses = { firstMs: 400, maxMs: 2_000 };

/** Gives nodes their subnets (G1), and knows them again. */
export class Registry {
  readonly #store: Store;
  readonly #now: () => Date;
  readonly #monotonic: () => number;
  readonly #onChanged: RegistrationFields["onChanged"];
  readonly #recovery: Recovery;

  constructor(store: Store, options: RegistryOptions = {}) {
    this.#store = store;
    this.#now = options.now ?? (() => new Date());
    this.#monotonic = options.monotonic ?? (() => performance.now());
    this.#onChanged = options.onChanged;
    this.#recovery = new Recovery(store, options);
  }

  /**
   * Registers a node, or returns the registration it has. Safe to repeat after a lost answer. While the store is
   * recovering, a node that has none waits.
   * @throws {ConflictError} when the name, or the explicit subnet, belongs to somebody else, or the store does not hold
   * the node's cluster; {@link ExhaustedError} when the parent CIDR is full; {@link InvalidError} for a subnet outside
   * the parent, and for a name that is no host name; {@link UnavailableError} when the store does not recover in time.
   */
  async register(request: RegisterRequest, options: RegisterOptions = {}): Promise<Registration> {
    checkNodeName(request.node);
    const explicit = request.subnet === undefined ? undefined : parseCidr(request.subnet, "subnet");
    const [changed, unheard] = [new Backoff(changedPauses), new Backoff(unheardPauses)];
    const { former } = request;
    const fits = !explicit || former?.subnet === formatCidr(explicit);
    const attempt: Attempt = { claimedIn: undefined, former: fits ? former : undefined };
    // For lost answers and for what changes between look and claim; races for a slot are settled inside.
    for (let round = 1; ; round++) {
      let pauses = changed;
      try {
        const found = await this.#look(request, options);
        const { id, recovering } = found.look.incarnation;
        const mine = this.#existing(request, explicit, found);
        // G1: what was claimed in a past that the store has lost is nobody's, least of all somebody else's subnet.
        if (mine && (attempt.claimedIn ?? id) !== id) {
          await withdrawClaim(this.#store, mine, this.#now(), options);
        } else if (mine) return mine;
        else if (attempt.former) {
          const takenUp = await this.#takeUp(request, attempt, options);
          if (takenUp) return takenUp;
          if (recovering) await this.#recovered(found, options);
        } else if (recovering) await this.#recovered(found, options);
        else {
          const claimed = await this.#claim(request, explicit, found, attempt, options);
          if (claimed && (await this.#recovery.unchanged(found.look, options))) return claimed;
        }
        if (round === rounds) {
          throw new ConflictError(`node ${request.node} could not be registered: the cluster kept changing`, {
            hint: "try again",
          });
        }
      } catch (error) {
        options.signal?.throwIfAborted();
        if (!(error instanceof UnavailableError) || error instanceof RecoveringError || round === rounds) {
          throw error;
        }
        pauses = unheard;
      }
      await pauses.wait(options.signal);
    }
  }

  /**
   * Takes up an ownership that a node has on record, in the epoch that it has in this store: one that the store has
   * lost is asserted again. @throws as {@link Registration.confirm}.
   */
  async reassert(
    former: Omit<RegistrationFields, "config" | "now" | "recovery"> & {
      readonly clusterUID?: string | undefined;
    },
    options: CallOptions = {},
  ): Promise<Registration> {
    // One by one: of another registration they are accessors.
    const { node, uid, subnet, epoch, incarnation, about, onChanged = this.#onChanged, clusterUID } = former;
    const { config } = await readCluster(this.#store, { ...options, clusterUID });
    const registration = new Registration(this.#store, {
      ...{ node, uid, subnet, epoch, incarnation, config, about, onChanged },
      now: this.#now,
      recovery: this.#recovery,
    });
    await registration.confirm(options);
    return registration;
  }

  /** The slot that the next node would get, without taking it. */
  async nextFree(options: CallOptions = {}): Promise<string> {
    const cluster = await readCluster(this.#store, options);
    return formatCidr(await lowestFreeSlot(this.#store, cluster, options));
  }

  #checkExplicit(subnet: Cidr, cluster: ClusterView): void {
    checkSubnet(subnet, { ...cluster, nodePrefix: cluster.config.nodePrefix });
    const slots = slotsOf(subnet, cluster.config.nodePrefix).length;
    const most = mostSlots(this.#store);
    if (slots <= most) return;
    throw new InvalidError(
      `subnet ${formatCidr(subnet)} is too wide: it has ${slots} slots, ${this.#store.label} takes ${most} at once`,
      { hint: "choose a longer prefix" },
    );
  }

  async #look({ node, clusterUID }: RegisterRequest, options: CallOptions): Promise<Situation> {
    const { signal, timeoutMs } = options;
    const names = [keys.subnet(node), keys.node(node), keys.joining];
    const look = await this.#recovery.look(names, { signal, timeoutMs, clusterUID });
    const [owned, about, joining] = look.reads;
    const cluster = viewOf(look.config, look.incarnation, look.revision, this.#store.label);
    return { cluster, look, owned, about, joining };
  }

  #existing(
    request: RegisterRequest,
    explicit: Cidr | undefined,
    { cluster, look, owned, about }: Situation,
  ): Registration | undefined {
    if (!owned) return undefined;
    const record = about && decode(nodeSchema, about);
    if (record?.uid !== request.uid) {
      throw new ConflictError(
        `node name "${request.node}" is registered by instance ${record?.uid ?? "unknown"} with ${subnetIn(owned)}`,
        { hint: "choose another --node-name, or reclaim that node first" },
      );
    }
    if (record.status === "fencing" || record.status === "quarantined") {
      throw new ConflictError(`node ${request.node} is being reclaimed (${record.status})`, {
        hint: "wait until `cocoon-net cluster nodes` shows it as left, then start it again",
      });
    }
    if (explicit && subnetIn(owned) !== formatCidr(explicit)) {
      throw new ConflictError(
        `node ${request.node} owns ${subnetIn(owned)} already and cannot take ${formatCidr(explicit)} too`,
        { hint: "leave out --subnet, or tear the node down first" },
      );
    }
    return this.#registration(request, subnetIn(owned), owned.modRevision, cluster, look.incarnation.id);
  }

  /** Undefined when the former ownership has ended, or while that is not decided. */
  async #takeUp(
    request: RegisterRequest,
    attempt: Attempt,
    options: CallOptions,
  ): Promise<Registration | undefined> {
    if (!attempt.former) return undefined;
    const { node, uid, clusterUID } = request;
    const { subnet, epoch, incarnation } = attempt.former;
    try {
      return await this.reassert(
        { node, uid, clusterUID, subnet, epoch, incarnation, about: request },
        options,
      );
    } catch (error) {
      if (error instanceof FencedError) attempt.former = undefined;
      else if (!(error instanceof ConflictError)) throw error;
      return undefined;
    }
  }

  #recovered({ cluster, look }: Situation, options: RegisterOptions): Promise<void> {
    const { label } = this.#store;
    return untilRecovered(this.#recovery, label, cluster.config, look.incarnation, this.#monotonic, options);
  }

  /** Undefined when something has changed meanwhile: look again. */
  async #claim(
    request: RegisterRequest,
    explicit: Cidr | undefined,
    found: Situation,
    attempt: Attempt,
    { signal, timeoutMs }: CallOptions,
  ): Promise<Registration | undefined> {
    const { cluster, look, about } = found;
    if (explicit) this.#checkExplicit(explicit, cluster);
    const { id } = look.incarnation;
    const result = await claimSome(this.#store, request, found, {
      ...{ signal, timeoutMs, now: this.#now, subnet: explicit },
      returning: about !== undefined || request.former !== undefined,
      onClaim: (block) => {
        attempt.claimedIn = block === "free" ? id : undefined;
      },
    });
    if (result.type !== "owned") return undefined;
    return this.#registration(request, result.subnet, result.epoch, cluster, id);
  }

  #registration(
    request: RegisterRequest,
    subnet: string,
    epoch: Revision,
    cluster: ClusterView,
    incarnation: string,
  ): Registration {
    return new Registration(this.#store, {
      node: request.node,
      uid: request.uid,
      subnet,
      epoch,
      incarnation,
      config: cluster.config,
      about: request,
      onChanged: this.#onChanged,
      now: this.#now,
      recovery: this.#recovery,
    });
  }
}

function subnetIn(entry: Entry): string {
  return JSON.parse(entry.value) as string;
}

/** @throws {InvalidError} for a name that no node of a cluster can have */
export function checkNodeName(node: string): void {
  if (/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/.test(node)) return;
  throw new InvalidError(`node name "${node}" is not a host name`, {
    hint: "use letters, digits, dots and dashes, at most 253, the first and the last a letter or a digit",
  });
}
