import {
  type CheckReport,
  cancelDrain,
  cancelMigration,
  checkCluster,
  pauseReclaim,
  planRepair,
  requestDrain,
  requestMigration,
  requestReclaim,
  resumeReclaim,
  runRepair,
} from "@cocoon-net/controller";
import {
  CocoonError,
  decode,
  type Entry,
  encode,
  keys,
  quarantineSchema,
  UnavailableError,
} from "@cocoon-net/core";
import { HistoryControllers, type Interruption, tickMs } from "./history-controllers.ts";
import { HistoryGuarantees, litterNet } from "./history-guarantees.ts";
import { HistoryNodes, hostOf, type LinkedMember, leaseOf } from "./history-nodes.ts";
import { InterposedStore } from "./interposed-store.ts";
import { ScriptedCloud } from "./scripted-cloud.ts";
import { TestCluster } from "./test-cluster.ts";

/** How often each thing happens, by weight. */
export const happenings = {
  pass: 9,
  die: 3,
  stop: 1,
  hang: 3,
  return: 5,
  "cut-off": 2,
  "in-reach": 2,
  ghost: 2,
  heir: 2,
  teardown: 1,
  drain: 2,
  undrain: 1,
  departs: 1,
  reclaim: 2,
  force: 2,
  move: 5,
  "stop-move": 1,
  "guest-gone": 2,
  "guest-comes": 1,
  pause: 1,
  resume: 1,
  litter: 1,
  repair: 2,
  "cloud-fails": 2,
  "cloud-hangs": 1,
  "cloud-stale": 1,
  "nic-stuck": 2,
  "answers-lost": 1,
  "node-answer-lost": 1,
  "store-away": 1,
  kill: 1,
  "kill-at": 3,
  "meets-write": 5,
  deaf: 1,
} as const;

/** One thing that happens; `node` and `other` are taken modulo the number of nodes. */
export interface Step {
  readonly what: keyof typeof happenings;
  readonly node: number;
  readonly other: number;
  readonly ms: number;
}

const nodeCount = 5;
const hosts = [2, 3];

/** Plays a history on one cluster; {@link HistoryGuarantees} watches it. */
export class History implements AsyncDisposable {
  readonly guarantees: HistoryGuarantees;
  readonly #cluster: TestCluster;
  readonly #operators: InterposedStore;
  readonly #nodes: HistoryNodes;
  readonly #controllers: HistoryControllers;
  readonly #forced = new Set<string>();
  readonly #stop = new AbortController();
  #failing = 0;
  /** Until it is resolved the cloud changes nothing. */
  #hanging: PromiseWithResolvers<void> | undefined;
  #healedAt = 0;
  #made = 0;

  private constructor(cluster: TestCluster) {
    this.#cluster = cluster;
    this.#operators = new InterposedStore(cluster.store);
    this.#nodes = new HistoryNodes(cluster, {
      onTxn: (node, request) => this.guarantees.ofNode(node, request),
      onViolation: (text) => this.guarantees.violations.push(text),
    });
    this.#controllers = new HistoryControllers(cluster, (id, request, isLoading) =>
      this.guarantees.ofOther(id, request, isLoading),
    );
    this.guarantees = new HistoryGuarantees(cluster, {
      members: this.#nodes.members,
      nicOwners: this.#nodes.nicOwners,
      forced: this.#forced,
      isLive: (id) => this.#controllers.live.some((known) => known.id === id && known.link.passing),
      reachedMs: () => this.#controllers.reachedMs,
    });
    this.#operators.intercept = (request, forward) => {
      this.guarantees.ofOther("an operator", request, false);
      return forward();
    };
  }

  static async open(): Promise<History> {
    const cluster = await TestCluster.open({ damaged: true, leaseMs: 60_000 });
    const history = new History(cluster);
    for (let index = 0; index < nodeCount; index++) await history.#nodes.join(`n${index}`);
    history.guarantees.begin();
    history.#controllers.start();
    history.#controllers.start();
    cluster.vpc.before = (call) => history.#beforeCall(call);
    // Both settle their election, and the leader has loaded.
    await cluster.pass(tickMs);
    return history;
  }

  async play(step: Step): Promise<void> {
    await this.#play(step).catch(onlyRefused);
    await this.#cluster.pass(0);
    this.guarantees.afterStep();
  }

  /** Ends every fault, and gives the cluster the time to come to rest. What two checks then find is repaired. */
  async heal(): Promise<CheckReport> {
    const cluster = this.#cluster;
    this.#healedAt = cluster.clock.now();
    this.#failing = 0;
    this.#hanging?.resolve();
    this.#hanging = undefined;
    this.#controllers.atWrite = undefined;
    cluster.vpc.stale = false;
    this.#controllers.reach();
    for (const { link, faults } of this.#nodes.members) {
      link.pass();
      faults.losesAnswer = false;
    }
    await resumeReclaim(this.#operators);
    // Long enough for a block to be freed that must not be: its interfaces are still there.
    if (cluster.vpc.stuck.size > 0) await cluster.pass(150_000);
    cluster.vpc.stuck.clear();
    for (const [node, member] of this.#nodes.members.entries()) {
      member.agent.deaf = false;
      const isGone = cluster.vpc.instances.get(member.node.registration.uid) === "gone";
      if (!isGone) await this.play({ what: "return", node, other: 0, ms: 0 });
      await member.agent.look();
    }
    const rest = () =>
      cluster.until("the cluster has come to rest", () => this.#isAtRest(), 3_600_000, 10_000);
    await rest();
    const found = await this.#check();
    if (!found.findings.some(({ repair }) => repair)) return found;
    this.#repair(found, await this.#check());
    await cluster.pass(tickMs);
    await rest();
    return this.#check();
  }

  /** Whether a finding is what a forced reclaim could not exclude, or what an agent has to mend. */
  isExplained({ code, subject }: CheckReport["findings"][number]): boolean {
    // The scripted agent asks the cloud for nothing when it comes back.
    if (code === "lease-not-delivered") return true;
    if (this.#forced.size === 0) return false;
    return (
      ["address-without-owner", "address-held-by-another", "resource-leaked"].includes(code) && subject !== ""
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#hanging?.resolve();
    for (const { agent, link } of this.#nodes.members) {
      link.pass();
      await agent.stop();
    }
    await this.#cluster[Symbol.asyncDispose]();
  }

  async #play({ what, node, other, ms }: Step): Promise<void> {
    const cluster = this.#cluster;
    const { vpc } = cluster;
    const store = this.#operators;
    const options = { now: () => cluster.date() };
    const member = this.#member(node);
    const { name, registration } = member.node;
    // Of its own block, or of one that may be somebody else's by now, or nobody's; or one that has moved.
    const block = ms % 3 === 0 ? `10.0.${node % nodeCount}.0/24` : registration.subnet;
    const moved = this.#all("moved/");
    const away = ms % 3 === 1 ? moved[node % Math.max(moved.length, 1)] : undefined;
    const ip = away?.key.slice("moved/".length) ?? hostOf(block, hosts[other % hosts.length] ?? 2);
    switch (what) {
      case "pass":
        return cluster.pass(ms);
      case "die":
      case "stop":
        vpc.instances.set(registration.uid, what === "die" ? "gone" : "stopped");
        return this.#nodes.silence(member);
      case "hang":
        return this.#nodes.silence(member);
      case "return":
        return this.#nodes.return(member);
      case "cut-off":
        return member.link.blackhole();
      case "in-reach":
        member.link.pass();
        return;
      case "ghost":
        return this.#nodes.haunt(ms, other);
      case "heir":
        return this.#nodes.inherit(member);
      case "teardown":
        return this.#nodes.tearDown(member);
      case "drain":
        await requestDrain(store, name, options);
        if (other % 2 === 0 && this.#nodes.isHeard(member)) {
          await registration.update({ grantsStopped: cluster.date().toISOString() });
        }
        return;
      case "undrain":
        await cancelDrain(store, name, options);
        return;
      case "departs":
        if (this.#nodes.isHeard(member))
          await registration.depart(other % 2 === 0 ? "its machine ends" : undefined);
        return;
      case "reclaim":
        await requestReclaim(store, name, {}, options);
        return;
      case "force":
        await requestReclaim(store, name, { force: true }, options);
        this.#forced.add(registration.subnet);
        // What it is for: a fence that nobody can verify.
        if (other % 2 === 0) vpc.stale = true;
        return;
      case "move":
        // One of its agents hears nothing of it, or the cloud does nothing for a while.
        if (ms % 5 === 0) this.#member(ms % 2 === 0 ? node : other).link.blackhole();
        if (ms % 5 === 1) this.#hanging ??= Promise.withResolvers<void>();
        await requestMigration(store, { ip, to: this.#member(other).node.name }, options);
        return;
      case "stop-move":
        await cancelMigration(store, ip, options);
        return;
      case "guest-gone":
      case "guest-comes":
        return this.#nodes.guest(ip, what === "guest-comes");
      case "pause":
        return pauseReclaim(store, "a test", options);
      case "resume":
        await resumeReclaim(store, options);
        return;
      case "litter":
        return this.#litter(other);
      case "repair":
        this.#repair(await this.#check(), await this.#check());
        return;
      case "cloud-fails":
        this.#failing = 1 + (other % 4);
        return;
      case "cloud-hangs":
        this.#hanging?.resolve();
        this.#hanging = other % 2 === 0 ? Promise.withResolvers<void>() : undefined;
        return;
      case "cloud-stale":
        vpc.stale = other % 2 === 0;
        return;
      case "nic-stuck": {
        const [nic] =
          [...this.#nodes.nicOwners].find(([id, uid]) => uid === registration.uid && vpc.nics.has(id)) ?? [];
        if (nic !== undefined) vpc.stuck.add(nic);
        return;
      }
      case "answers-lost":
        this.#controllers.leader.link.swallow(1 + (other % 3));
        return;
      case "node-answer-lost":
        member.faults.losesAnswer = true;
        return;
      case "store-away":
        this.#controllers.reach();
        if (other % 2 === 0) this.#controllers.cutOff();
        return;
      case "kill":
        return this.#controllers.kill(this.#controllers.leader);
      case "kill-at":
        this.#controllers.atWrite = {
          prefix: "",
          skip: ms % 4,
          act: async (id, _, forward) => {
            const controller = this.#controllers.live.find((known) => known.id === id);
            const arrived = other % 2 === 0 ? await forward() : undefined;
            if (controller) this.#controllers.kill(controller);
            return arrived ?? forward();
          },
        };
        return;
      case "meets-write":
        // A guest that has gone comes back.
        if (other === 1) await this.#nodes.guest(ip, false);
        this.#controllers.atWrite = this.#meeting(other, ms);
        return;
      case "deaf":
        member.agent.deaf = other % 2 === 0;
        return;
    }
  }

  /** Something comes in just before a controller's write of what it is about. */
  #meeting(what: number, ms: number): Interruption {
    const before = (
      prefix: string,
      skip: number,
      first: (puts: Parameters<Interruption["act"]>[1]) => Promise<void> | undefined,
    ): Interruption => ({
      prefix,
      skip,
      act: async (_, puts, forward) => {
        await first(puts)?.catch(onlyRefused);
        return forward();
      },
    });
    if (what === 0) {
      const options = { now: () => this.#cluster.date() };
      return before("events/", ms % 4, () => pauseReclaim(this.#operators, "a test", options));
    }
    if (what === 1) {
      return before("intents/return-", 0, (puts) => {
        const moved = puts.find(({ put }) => put.startsWith("moved/"));
        return moved && this.#nodes.guest(moved.put.slice("moved/".length), true);
      });
    }
    return before("intents/reclaim-", ms % 12, (puts) => {
      const intent = puts.find(({ put }) => put.startsWith("intents/"));
      const { node } = JSON.parse(intent?.value ?? "{}") as { node?: string };
      const member = this.#nodes.members.find((each) => each.node.name === node);
      return member && this.#nodes.return(member);
    });
  }

  #member(index: number): LinkedMember {
    const member = this.#nodes.members[index % nodeCount];
    if (!member) throw new Error("there is no such node");
    return member;
  }

  /** What nobody can have left behind, for a repair to find. */
  async #litter(other: number): Promise<void> {
    this.#made += 1;
    if (other % 2 === 0) {
      const id = `eni-lost-${this.#made}`;
      this.#cluster.vpc.nics.set(id, { subnet: `${litterNet}0/24`, instanceID: undefined });
      return;
    }
    const ip = `${litterNet}${this.#made}`;
    await this.#cluster.store.txn({ then: [{ put: keys.pool(ip), value: encode(leaseOf("nobody", ip)) }] });
  }

  #check(): Promise<CheckReport> {
    const { vpc, store } = this.#cluster;
    const cloud = new ScriptedCloud(vpc, "operator");
    return checkCluster({ store, cloudFor: () => cloud, now: () => this.#cluster.date() });
  }

  /** Has the leader do it; nobody waits for that. */
  #repair(first: CheckReport, second: CheckReport): void {
    const options = { signal: this.#stop.signal, now: () => this.#cluster.date() };
    runRepair(this.#operators, planRepair(first, second), options).catch((error: unknown) => {
      if (!this.#stop.signal.aborted) this.guarantees.violations.push(`repair: ${error}`);
    });
  }

  async #isAtRest(): Promise<boolean> {
    const { database, vpc } = this.#cluster;
    // A block waits for the guests that are served elsewhere; they go in the end.
    for (const { key } of this.#all("moved/")) {
      const ip = key.slice("moved/".length);
      const entry = database.get(keys.quarantine(`${hostOf(ip, 0)}/24`));
      const until = entry && Date.parse(decode(quarantineSchema, entry).until);
      // Not before the quarantine alone would have freed it.
      if (until !== undefined && this.#cluster.date().getTime() > until + 60_000)
        await this.#nodes.guest(ip, false);
    }
    const isBusy = this.#all("intents/").length > 0 || this.#all("quarantine/").length > 0;
    // Mass silence may hold a reclaim that has begun.
    if (isBusy && this.#cluster.clock.now() - this.#healedAt < 600_000) return false;
    // G13: where too many are dead, an operator has to ask for each.
    const dead = this.#nodes.members.filter(
      ({ node: { name, registration } }) =>
        vpc.instances.get(registration.uid) === "gone" && database.get(keys.subnet(name)),
    );
    for (const { node } of dead) await requestReclaim(this.#cluster.store, node.name).catch(() => undefined);
    if (isBusy || dead.length > 0) return false;
    return this.#all("moved/").every(
      ({ key }) => database.get(keys.pool(key.slice("moved/".length))) !== undefined,
    );
  }

  #beforeCall(call: string): void | Promise<void> {
    const fails = this.#failing > 0;
    this.guarantees.beforeCall(call, fails);
    if (!fails) return / (detach|delete|(un)?assign) /.test(call) ? this.#hanging?.promise : undefined;
    this.#failing -= 1;
    throw new UnavailableError(`${call}: no answer`, { outcome: "unknown" });
  }

  #all(prefix: string): Entry[] {
    return this.#cluster.database.list(prefix, Number.POSITIVE_INFINITY, undefined);
  }
}

/** What operators and nodes are refused is part of life. */
function onlyRefused(error: unknown): void {
  if (!(error instanceof CocoonError)) throw error;
}
