import {
  formatCidr,
  type LeaseRecord,
  type MovedRecord,
  type NodeRecord,
  parseCidr,
  type QuarantineRecord,
  type SlotRecord,
  slotsOf,
  type TxnRequest,
} from "@cocoon-net/core";
import type { MemoryDatabase } from "@cocoon-net/store-memory";
import { faultsOfNode, faultsOfWrite } from "./history-requests.ts";
import type { SimulatedAgent } from "./simulated-agent.ts";
import type { TestCluster, TestNode } from "./test-cluster.ts";

/** A node of a history, with its agent. */
export interface Member {
  node: TestNode;
  agent: SimulatedAgent;
}

/** By its own clock the node knows that it owns its subnet. */
export function isSure({ node }: Member): boolean {
  return node.session?.signal.aborted === false;
}

/** What the checks have to know of a history beside its cluster. */
export interface HistoryWorld {
  readonly members: readonly Member[];
  /** Blocks whose reclaim was forced: they may be free while an interface holds them still (G6), and only they. */
  readonly forced: ReadonlySet<string>;
  /** The instance that each NIC was made for, or has taken over. */
  readonly nicOwners: ReadonlyMap<string, string>;
  /** Whether this controller's calls arrive. */
  readonly isLive: (controller: string) => boolean;
  /** The store has been within every controller's reach for so long, milliseconds. */
  readonly reachedMs: () => number;
}

type Transaction = NonNullable<ReturnType<MemoryDatabase["transactionsAfter"]>>[number];
type KeyChange = Transaction["changes"][number];

interface Intent {
  readonly kind: string;
  readonly step: string;
  readonly cause?: string;
  readonly node: string;
  readonly uid: string;
  readonly ip: string;
  readonly fromUID: string;
  readonly toUID: string;
  readonly cloudSteps: readonly { readonly action: string; readonly phase: string; readonly key: string }[];
  readonly undoSteps?: Intent["cloudSteps"];
}

/** Where addresses and interfaces are that a history strews about: nobody's. */
export const litterNet = "10.0.77.";

/** The store's records, each parsed once. */
class Records {
  readonly #tables = new Map<string, Map<string, unknown>>();

  table<T>(prefix: string): Map<string, T> {
    let table = this.#tables.get(prefix);
    if (!table) {
      table = new Map();
      this.#tables.set(prefix, table);
    }
    return table as Map<string, T>;
  }

  apply({ key, after }: KeyChange): void {
    const slash = key.indexOf("/");
    const table = this.table(key.slice(0, slash + 1));
    if (after) table.set(key.slice(slash + 1), JSON.parse(after.value));
    else table.delete(key.slice(slash + 1));
  }
}

const mutating = new Set(["detach", "delete", "unassign", "assign"]);

/**
 * What must hold in a history, looked at after every commit, before every change of the cloud, at every transaction
 * that is sent, and after every step. By guarantee:
 *
 * - G1 each commit: every slot of an owned subnet names its owner.
 * - G2 each commit: a lease is of the node that may grant the address; each step: a node that is sure of itself may not grant
 *   an address that another serves. On disk and routed before the ACK: dhcp/test/crash.test.ts.
 * - G3 each transaction of a node compares its epoch; a node that has lost its subnet is refused (step `ghost`).
 * - G4 each transaction of controllers and operators compares the revision, or the absence, of what it changes.
 * - G5 each commit: a block is fenced only while no instance has its NICs, or addresses that were moved to it; it is free
 *   only when none is left; a reclaim begins only while the node is silent, or drained. Each step: what a fence has taken
 *   from an instance is not on record as its own. Also what `pause` promises.
 * - G6 each commit: what no fence has verified was forced, and rests a lease time; every quarantine lasts its length.
 * - G7 each commit: a node that is sure is on record as alive. What it does when it is not: cluster-rules/heartbeat-rules.ts
 *   and agent/test/cluster-node-rules.ts.
 * - G8 each commit: a reclaim has two answers in a row that the instance is gone; what is deleted at the cloud is of a
 *   block that nobody owns; an address is sent home only while it has no lease.
 * - G9 each transaction: a leader writes nothing before all that it follows has been loaded. A node's part, which is
 *   files and routes: dhcp/test/load-leases.test.ts and server.test.ts.
 * - G10 each commit: every slot is owned or rests, and every quarantine has its slots. A pool's addresses:
 *   dhcp/test/engine-model.test.ts.
 * - G11 each change of the cloud: an intent says so; none is made for a node in a move. At the end no intent is left,
 *   and two checks find nothing. Only what carries our tags is deleted: cloud-volcengine/test/ownership.test.ts.
 * - G12 each commit: slots and node record name one instance; a reclaim touches the record, and each change of the cloud
 *   the NICs, of its own instance only.
 * - G13 each commit: no reclaim begins, and no fence makes a change, while many are silent.
 * - G14 is a node without a store: agent/test/single-node.test.ts.
 */
export class HistoryGuarantees {
  readonly violations: string[] = [];
  readonly #cluster: TestCluster;
  readonly #world: HistoryWorld;
  readonly #records = new Records();
  /** When each node was seen to be silent, and suspect or fencing. */
  readonly #troubled = new Map<string, number>();
  /** When each quarantine began, and how long it says that it is. */
  readonly #resting = new Map<string, { readonly since: number; readonly lengthMs: number }>();
  /** By controller and instance: answers in a row that it is gone. */
  readonly #saidGone = new Map<string, number>();

  constructor(cluster: TestCluster, world: HistoryWorld) {
    this.#cluster = cluster;
    this.#world = world;
  }

  /** Watches from now on. */
  begin(): void {
    const { database } = this.#cluster;
    let seen = database.revision;
    for (const entry of database.list("", Number.POSITIVE_INFINITY, undefined)) {
      this.#records.apply({ key: entry.key, before: undefined, after: entry });
    }
    database.onCommit(() => {
      for (const transaction of database.transactionsAfter(seen) ?? []) this.#judge(transaction);
      seen = database.revision;
      this.#afterCommit();
    });
  }

  get #subnets(): ReadonlyMap<string, string> {
    return this.#records.table("subnets/");
  }

  get #slots(): ReadonlyMap<string, SlotRecord> {
    return this.#records.table("slots/");
  }

  get #nodes(): ReadonlyMap<string, NodeRecord> {
    return this.#records.table("nodes/");
  }

  get #moved(): ReadonlyMap<string, MovedRecord> {
    return this.#records.table("moved/");
  }

  get #intents(): ReadonlyMap<string, Intent> {
    return this.#records.table("intents/");
  }

  /** A node's transaction, before it is sent (G3). */
  ofNode(node: string, request: TxnRequest): void {
    this.violations.push(...faultsOfNode(node, request));
  }

  /** What a controller or an operator writes, before it is sent (G4, G9). */
  ofOther(who: string, request: TxnRequest, isLoading: boolean): void {
    this.violations.push(...faultsOfWrite(who, request, isLoading));
  }

  /** A call of the cloud, before it is made: what it is about to change (G11, G12), and what it will answer (G8). */
  beforeCall(call: string, fails: boolean): void {
    const [who = "", action = "", key = ""] = call.split(" ");
    if (action === "describe") {
      const state = fails ? "unknown" : (this.#cluster.vpc.instances.get(key) ?? "gone");
      const known = this.#saidGone.get(`${who} ${key}`) ?? 0;
      this.#saidGone.set(`${who} ${key}`, state === "gone" || state === "stopped" ? known + 1 : 0);
    }
    if (!mutating.has(action) || !this.#world.isLive(who)) return;
    const noting = [...this.#intents.values()].filter(({ cloudSteps = [], undoSteps = [] }) =>
      [...cloudSteps, ...undoSteps].some(
        (step) => step.action === action && step.phase === "intent" && step.key === key,
      ),
    );
    if (noting.length === 0) this.violations.push(`G11: ${call} without a note`);
    const owner = this.#world.nicOwners.get(key);
    if (owner !== undefined && noting.every(({ kind, uid }) => kind === "reclaim" && uid !== owner)) {
      this.violations.push(`G12: ${call}, which is ${owner}'s, for ${noting.map(({ uid }) => uid)}`);
    }
    if (action === "detach" && this.#isMoving(owner)) {
      this.violations.push(`G11: ${call} while its node has a move`);
    }
  }

  /** Between two steps, when all that is under way has come as far as it can. */
  afterStep(): void {
    for (const [ip, { node, uid, move }] of this.#moved) {
      const holder = this.#cluster.vpc.holders.get(ip);
      // A fence takes it before it writes that down.
      if (move || uid === "" || holder === uid || this.#nodes.get(node)?.status === "fencing") continue;
      this.violations.push(`G5: ${ip} is ${uid}'s on record, and ${holder} holds it`);
    }
    const sure = this.#world.members.filter(isSure);
    for (const ip of this.#moved.keys()) {
      const home = sure.find(({ node }) => this.#isOwner(node) && node.registration.subnet === blockOf(ip));
      const servers = sure.filter(({ agent }) => agent.served.has(ip));
      // One that has agreed to hand its guest over may be the last to hear that it has.
      if (home && !home.agent.frozen.has(ip) && servers.length > 0) {
        this.violations.push(
          `G2: ${home.node.name} may grant ${ip}, ${servers.map(({ node }) => node.name)} serves it`,
        );
      }
    }
  }

  #isOwner({ name, registration }: TestNode): boolean {
    return this.#cluster.database.get(`subnets/${name}`)?.modRevision === registration.epoch;
  }

  /** Whether this instance, not just one of its name (G12), has a move that could still swap an owner. */
  #isMoving(instance: string | undefined): boolean {
    return [...this.#intents.values()].some(
      ({ kind, step, ip, fromUID, toUID }) =>
        kind === "move" &&
        (step === "preparing" || step === "moving") &&
        instance !== undefined &&
        [fromUID, toUID, this.#moved.get(ip)?.unfenced].includes(instance),
    );
  }

  /** The state that a commit has left. */
  #afterCommit(): void {
    const { vpc } = this.#cluster;
    const slots = this.#slots;
    const owned = new Set<string>();
    for (const [node, subnet] of this.#subnets) {
      for (const cidr of slotsOf(parseCidr(subnet), 24)) {
        const slot = formatCidr(cidr);
        owned.add(slot);
        const held = slots.get(slot);
        if (held?.node !== node)
          this.violations.push(`G1: ${node} owns ${subnet}, its slot says ${held?.node}`);
        if (held?.uid !== this.#nodes.get(node)?.uid) {
          this.violations.push(`G12: ${slot} is ${held?.uid}'s, ${node} is ${this.#nodes.get(node)?.uid}`);
        }
      }
    }
    const quarantine = this.#records.table<QuarantineRecord>("quarantine/");
    for (const cidr of slots.keys()) {
      if (owned.has(cidr) === quarantine.has(cidr)) {
        this.violations.push(`G10: ${cidr} is ${owned.has(cidr) ? "owned and rests" : "nobody's"}`);
      }
    }
    for (const cidr of quarantine.keys()) {
      if (!slots.has(cidr)) this.violations.push(`G10: ${cidr} rests, and its slot is free`);
    }
    for (const [id, nic] of vpc.nics) {
      if (this.#world.forced.has(nic.subnet) || slots.has(nic.subnet) || !this.#world.nicOwners.has(id))
        continue;
      if (nic.instanceID === undefined && vpc.warm.has(id)) continue;
      this.violations.push(`G5: ${nic.subnet} is free, ${id} still holds it`);
    }
    for (const [ip, { node }] of this.#records.table<LeaseRecord>("pool/")) {
      const moved = this.#moved.get(ip);
      const held = slots.get(blockOf(ip));
      const grants = moved?.node ?? held?.node;
      if (node !== grants && held?.node !== "" && !ip.startsWith(litterNet)) {
        this.violations.push(`G2: ${ip} is leased by ${node}, and ${grants} may grant it`);
      }
    }
    for (const ip of this.#moved.keys()) {
      if (!slots.has(blockOf(ip)))
        this.violations.push(`G2: ${blockOf(ip)} is free, and ${ip} is served elsewhere`);
    }
    for (const [ip, holder] of vpc.holders) {
      if (holder !== undefined && !this.#moved.has(ip)) {
        this.violations.push(`G2: ${holder} holds ${ip}, and no record says so`);
      }
    }
    const alive = this.#records.table("alive/");
    for (const [node, { status }] of this.#nodes) {
      if ((status !== "suspect" && status !== "fencing") || alive.has(node)) this.#troubled.delete(node);
      else if (!this.#troubled.has(node)) this.#troubled.set(node, this.#cluster.clock.now());
    }
  }

  /** One transaction, with the records still as they were before it. */
  #judge({ changes }: Transaction): void {
    const isPaused = this.#cluster.database.get("pause") && !changes.some(({ key }) => key === "pause");
    for (const change of changes) {
      const { key, after, before } = change;
      // A node that is torn down gives its slots back itself.
      const isLeft = !after && changes.some((other) => other.key.startsWith("subnets/") && !other.after);
      const frees = key.startsWith("slots/") && (!after || after.value.includes('"node":""'));
      if (isPaused && frees && before && !isLeft) this.violations.push(`pause: ${key} is being freed`);
      if (key.startsWith("quarantine/")) this.#judgeQuarantine(change, changes);
      if (key.startsWith("intents/")) this.#judgeIntent(change);
      if (key.startsWith("nodes/")) this.#judgeNode(change, changes);
      if (key.startsWith("moved/")) this.#judgeReturn(change);
      if (key.startsWith("alive/") && !after) {
        const member = this.#world.members.find(({ node }) => `alive/${node.name}` === key);
        const hasLeft = changes.some((other) => other.key === `subnets/${member?.node.name}` && !other.after);
        if (member && isSure(member) && !hasLeft)
          this.violations.push(`G7: ${key} has gone, and the node does not know`);
      }
    }
    for (const change of changes) this.#records.apply(change);
  }

  #judgeQuarantine({ key, after }: KeyChange, changes: readonly KeyChange[]): void {
    const { clock, vpc } = this.#cluster;
    const block = key.slice("quarantine/".length);
    const now = clock.now();
    if (!after) {
      const resting = this.#resting.get(key);
      const isTakenBack = changes.some((change) => change.key.startsWith("subnets/") && change.after);
      if (!resting || isTakenBack || now - resting.since >= resting.lengthMs - 1) return;
      this.violations.push(`G6: ${key} ended after ${now - resting.since} of ${resting.lengthMs} ms`);
      return;
    }
    const { from, until, fenced, uid, intent = "" } = JSON.parse(after.value) as QuarantineRecord;
    const lengthMs = Date.parse(until) - Date.parse(from);
    this.#resting.set(key, { since: now, lengthMs });
    if (fenced) {
      const held = [...vpc.nics].filter(([, nic]) => nic.subnet === block && nic.instanceID === uid);
      const movedIn = [...vpc.holders].filter(([, holder]) => holder === uid);
      if (held.length + movedIn.length > 0) {
        this.violations.push(
          `G5: ${key} is fenced, and ${uid} holds ${[...held, ...movedIn].map(([id]) => id)}`,
        );
      }
      return;
    }
    const job = this.#intents.get(intent);
    // A repair puts a block to rest by a job that begins with it.
    const isForced = job
      ? job.cause === "operator-forced"
      : changes.some((c) => c.key === `intents/${intent}`);
    if (!isForced) this.violations.push(`G5: ${key} was not fenced`);
    // One lease time, less the silence that was seen, plus the margin; no less than an ordinary one.
    if (lengthMs < 60_000) this.violations.push(`G6: ${key} rests too short`);
  }

  #judgeIntent({ key, before, after }: KeyChange): void {
    if (!after) return;
    const intent = JSON.parse(after.value) as Intent;
    if (intent.kind !== "reclaim") return;
    const { node, cause } = intent;
    const isAutomatic = cause === "instance-gone";
    if (
      !before &&
      cause !== "drained" &&
      cause !== "operator-forced" &&
      this.#cluster.database.get(`alive/${node}`)
    ) {
      this.violations.push(`G5: ${key} begins, and ${node} is alive`);
    }
    if (!before && isAutomatic) {
      const counts = [...this.#saidGone].filter(([asked]) => asked.endsWith(` ${intent.uid}`));
      if (!counts.some(([, count]) => count >= 2)) {
        this.violations.push(`G8: ${key} begins, and the cloud was not heard twice`);
      }
      for (const [asked] of counts) this.#saidGone.delete(asked);
    }
    const known = (before ? (JSON.parse(before.value) as Intent).cloudSteps : []).length;
    const fresh = intent.cloudSteps.slice(known).filter(({ phase }) => phase === "intent");
    for (const { action, key: nic } of fresh) {
      const block = this.#cluster.vpc.nics.get(nic)?.subnet ?? "";
      const owner = action === "delete" ? this.#slots.get(block)?.node : "";
      if (owner) this.violations.push(`G8: ${key} deletes ${nic}, and ${owner} owns ${block}`);
    }
    if (isAutomatic && (!before || (intent.step === "fencing" && fresh.length > 0))) this.#judgeSilence(key);
  }

  /** G13. The leader may see what has happened one tick later, and a write of its may have been held back. */
  #judgeSilence(key: string): void {
    const now = this.#cluster.clock.now();
    const since = [...this.#troubled.values()].filter((at) => now - at > 5_000);
    if (now >= 300_000 || this.#world.reachedMs() < 30_000) return;
    if (since.length >= 3 && since.length > 0.2 * this.#subnets.size) {
      this.violations.push(`G13: ${key} goes on while ${since.length} of ${this.#subnets.size} are silent`);
    }
  }

  /** G12: what is done with a block is done to the record of the instance that had it. */
  #judgeNode({ key, before, after }: KeyChange, changes: readonly KeyChange[]): void {
    if (!before || !after) return;
    const [was, is] = [before, after].map(({ value }) => (JSON.parse(value) as NodeRecord).uid);
    if (was !== is) return;
    const taken = changes.filter((change) => change.key.startsWith("slots/") && change.before);
    const uids = taken.map((change) => (JSON.parse(change.before?.value ?? "") as SlotRecord).uid);
    if (uids.some((uid) => uid !== was)) {
      this.violations.push(`G12: ${key} of ${was} changes with a block of ${uids}`);
    }
  }

  #judgeReturn({ key, before, after }: KeyChange): void {
    const begun = (value: string | undefined) =>
      value === undefined ? undefined : (JSON.parse(value) as MovedRecord).move?.intent;
    const intent = begun(after?.value);
    if (!intent?.startsWith("return-") || begun(before?.value) === intent) return;
    if (this.#cluster.database.get(`pool/${key.slice("moved/".length)}`)) {
      this.violations.push(`G8: ${intent} begins, and the address has a guest`);
    }
  }
}

function blockOf(ip: string): string {
  return `${ip.slice(0, ip.lastIndexOf("."))}.0/24`;
}
