import {
  type CheckReport,
  cancelDrain,
  cancelMigration,
  checkCluster,
  pauseReclaim,
  requestDrain,
  requestMigration,
  requestReclaim,
  resumeReclaim,
} from "@cocoon-net/controller";
import {
  CocoonError,
  decode,
  type Entry,
  formatCidr,
  keys,
  leaseSchema,
  movedSchema,
  parseCidr,
  quarantineSchema,
  slotsOf,
  UnavailableError,
  writeMovedLease,
} from "@cocoon-net/core";
import { ScriptedCloud } from "./scripted-cloud.ts";
import { SimulatedAgent } from "./simulated-agent.ts";
import { TestCluster, type TestController, type TestNode } from "./test-cluster.ts";

/** One thing that happens; `node` and `other` are taken modulo the number of nodes. */
export interface Step {
  readonly what:
    | "pass"
    | "die"
    | "hang"
    | "return"
    | "drain"
    | "undrain"
    | "reclaim"
    | "force"
    | "move"
    | "stop-move"
    | "guest-gone"
    | "guest-comes"
    | "pause"
    | "resume"
    | "cloud-fails"
    | "cloud-stale"
    | "nic-stuck"
    | "answers-lost"
    | "store-away"
    | "kill"
    | "deaf";
  readonly node: number;
  readonly other: number;
  readonly ms: number;
}

interface Member {
  node: TestNode;
  agent: SimulatedAgent;
}

const tickMs = 5_000;
const nodeCount = 5;
const hosts = [2, 3];

/** Plays a history on one cluster and watches every commit, and every change at the cloud, for what must never be. */
export class History implements AsyncDisposable {
  readonly violations: string[] = [];
  readonly #cluster: TestCluster;
  readonly #members: Member[] = [];
  readonly #forced = new Set<string>();
  readonly #troubled = new Map<string, number>();
  /** When each quarantine began, and how long it says that it is. */
  readonly #resting = new Map<string, { readonly since: number; readonly lengthMs: number }>();
  #leader: TestController;
  #controllers = 0;
  #failing = 0;
  #seen: number;

  private constructor(cluster: TestCluster) {
    this.#cluster = cluster;
    this.#leader = this.#startController();
    this.#startController();
    this.#seen = cluster.database.revision;
  }

  static async open(): Promise<History> {
    const cluster = await TestCluster.open({ damaged: true, leaseMs: 60_000 });
    const history = new History(cluster);
    for (let index = 0; index < nodeCount; index++) {
      const node = await cluster.join(`n${index}`);
      history.#members.push({ node, agent: new SimulatedAgent(cluster.store, node) });
    }
    cluster.database.onCommit(() => history.#afterCommit());
    cluster.vpc.before = (call) => history.#beforeCall(call);
    await cluster.pass(tickMs);
    return history;
  }

  async play(step: Step): Promise<void> {
    try {
      await this.#play(step);
    } catch (error) {
      // What operators and nodes are refused is part of life.
      if (!(error instanceof CocoonError)) throw error;
    }
    await this.#cluster.pass(0);
  }

  /** Ends every fault and gives the cluster the time to come to rest. */
  async heal(): Promise<CheckReport> {
    const cluster = this.#cluster;
    this.#failing = 0;
    cluster.vpc.stale = false;
    this.#leader.link.pass();
    await resumeReclaim(cluster.store);
    // Long enough for a block to be freed that must not be: its interfaces are still there.
    if (cluster.vpc.stuck.size > 0) await cluster.pass(150_000);
    cluster.vpc.stuck.clear();
    this.#leader.link.pass();
    for (const member of this.#members) {
      if (cluster.vpc.instances.get(member.node.registration.uid) !== "gone" && !member.node.session) {
        await this.#return(member).catch((error: unknown) => {
          if (!(error instanceof CocoonError)) throw error;
        });
      }
    }
    for (const { agent } of this.#members) {
      agent.deaf = false;
      await agent.look();
    }
    await cluster.until("the cluster has come to rest", () => this.#isAtRest(), 3_600_000, 10_000);
    const cloud = new ScriptedCloud(cluster.vpc, "operator");
    return checkCluster({ store: cluster.store, cloudFor: () => cloud, now: () => cluster.date() });
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
    for (const { agent } of this.#members) await agent.stop();
    await this.#cluster[Symbol.asyncDispose]();
  }

  async #play({ what, node, other, ms }: Step): Promise<void> {
    const cluster = this.#cluster;
    const { store, vpc } = cluster;
    const options = { now: () => cluster.date() };
    const member = this.#member(node);
    const { name } = member.node;
    const ip = `10.0.${node % nodeCount}.${hosts[other % hosts.length] ?? 2}`;
    switch (what) {
      case "pass":
        return cluster.pass(ms);
      case "die":
        return cluster.die(member.node);
      case "hang":
        return cluster.silence(member.node);
      case "return":
        return this.#return(member);
      case "drain":
        await requestDrain(store, name, options);
        if (other % 2 === 0) {
          await member.node.registration.update({ grantsStopped: cluster.date().toISOString() });
        }
        return;
      case "undrain":
        await cancelDrain(store, name, options);
        return;
      case "reclaim":
        await requestReclaim(store, name, {}, options);
        return;
      case "force":
        await requestReclaim(store, name, { force: true }, options);
        this.#forced.add(member.node.registration.subnet);
        // What it is for: a fence that nobody can verify.
        if (other % 2 === 0) vpc.stale = true;
        return;
      case "move":
        await requestMigration(store, { ip, to: this.#member(other).node.name }, options);
        return;
      case "stop-move":
        await cancelMigration(store, ip, options);
        return;
      case "guest-gone":
        return this.#guest(ip, false);
      case "guest-comes":
        return this.#guest(ip, true);
      case "pause":
        return pauseReclaim(store, "a test", options);
      case "resume":
        await resumeReclaim(store, options);
        return;
      case "cloud-fails":
        this.#failing = 1 + (other % 4);
        return;
      case "cloud-stale":
        vpc.stale = other % 2 === 0;
        return;
      case "nic-stuck":
        vpc.stuck.add(`eni-${member.node.registration.uid}-0`);
        return;
      case "answers-lost":
        this.#leader.link.swallow(1 + (other % 3));
        return;
      case "store-away":
        if (other % 2 === 0) this.#leader.link.blackhole();
        else this.#leader.link.pass();
        return;
      case "kill":
        this.#leader.kill();
        this.#leader = this.#startController();
        return;
      case "deaf":
        member.agent.deaf = other % 2 === 0;
        return;
    }
  }

  #member(index: number): Member {
    const member = this.#members[index % nodeCount];
    if (!member) throw new Error("there is no such node");
    return member;
  }

  #startController(): TestController {
    this.#controllers += 1;
    return this.#cluster.start(`c${this.#controllers}`, {
      tickMs,
      proveEveryMs: 15_000,
      resignAfterMs: 45_000,
      policy: "instance-gone",
      prepareMoveMs: 20_000,
    });
  }

  /** What an agent does that starts again: it claims what it had; refused, it joins anew, with its interfaces. */
  async #return(member: Member): Promise<void> {
    const cluster = this.#cluster;
    const { uid, node } = member.node.registration;
    if (member.node.session) return;
    cluster.vpc.instances.set(uid, "running");
    try {
      await cluster.speak(member.node);
      return;
    } catch (error) {
      if (error instanceof UnavailableError) throw error;
    }
    await member.agent.stop();
    const eniIDs = [`eni-${uid}-0`, `eni-${uid}-1`];
    const registration = await cluster.registry.register({
      node,
      uid,
      instanceID: uid,
      platform: "scripted",
      eniIDs,
      agentVersion: "1.0.0",
    });
    for (const id of eniIDs) cluster.vpc.nics.set(id, { subnet: registration.subnet, instanceID: uid });
    member.node = { name: node, registration, session: undefined };
    await cluster.speak(member.node);
    // With a new epoch it serves none of the addresses that were moved to it.
    for (const entry of this.#all("moved/")) {
      const moved = decode(movedSchema, entry);
      if (moved.node === node) await writeMovedLease(cluster.store, registration, entry, undefined);
    }
    member.agent = new SimulatedAgent(cluster.store, member.node);
  }

  /** A guest leaves the address, or comes, as the agent that may say so writes it. */
  async #guest(ip: string, comes: boolean): Promise<void> {
    const { store, database } = this.#cluster;
    const entry = database.get(keys.moved(ip));
    const lease = database.get(keys.pool(ip));
    const owner = this.#members.find(({ node }) => this.#ownsAddress(node, ip));
    const record = {
      node: "",
      mac: `02:00:00:00:00:0${ip.slice(-1)}`,
      expiry: "2026-01-02T00:00:00.000Z",
      seq: 9,
    };
    if (entry) {
      const moved = decode(movedSchema, entry);
      const server = this.#members.find(({ node }) => node.name === moved.node);
      if (!server?.node.session || comes || moved.move) return;
      await writeMovedLease(store, server.node.registration, entry, undefined);
      return;
    }
    if (!owner?.node.session) return;
    const { registration, name } = owner.node;
    const draining = database.get(keys.node(name))?.value.includes("draining");
    if (comes && (lease || draining)) return;
    await registration.mirror([[ip, comes ? { ...record, node: name } : undefined]]);
  }

  #ownsAddress({ name, registration }: TestNode, ip: string): boolean {
    const claim = this.#cluster.database.get(keys.subnet(name));
    return (
      claim?.modRevision === registration.epoch &&
      registration.subnet.startsWith(ip.slice(0, ip.lastIndexOf(".") + 1))
    );
  }

  async #isAtRest(): Promise<boolean> {
    // A block waits for the guests that are served elsewhere; they go in the end.
    for (const { key } of this.#all("moved/")) {
      const ip = key.slice(6);
      const block = `${ip.slice(0, ip.lastIndexOf("."))}.0/24`;
      const entry = this.#cluster.database.get(keys.quarantine(block));
      const until = entry && Date.parse(decode(quarantineSchema, entry).until);
      // Not before the quarantine alone would have freed it.
      if (until !== undefined && this.#cluster.date().getTime() > until + 60_000)
        await this.#guest(ip, false);
    }
    if (this.#all("intents/").length > 0 || this.#all("quarantine/").length > 0) return false;
    for (const member of this.#members) {
      const { uid, node } = member.node.registration;
      const isOwner = this.#cluster.database.get(keys.subnet(node)) !== undefined;
      // An operator's mass silence: those that are dead have to be reclaimed by hand then.
      if (this.#cluster.vpc.instances.get(uid) !== "gone" || !isOwner) continue;
      await requestReclaim(this.#cluster.store, node).catch(() => undefined);
      return false;
    }
    return this.#all("moved/").every(
      (entry) => this.#cluster.database.get(`pool/${entry.key.slice(6)}`) !== undefined,
    );
  }

  #beforeCall(call: string): void {
    const [who, action = "", key = ""] = call.split(" ");
    if (["detach", "delete", "unassign", "assign"].includes(action)) {
      // G11
      if (action === "detach" && this.#isMoving(key))
        this.violations.push(`${call} while its node has a move`);
      const noted = this.#all("intents/").some(({ value }) =>
        value.includes(`"action":"${action}","phase":"intent","key":"${key}"`),
      );
      if (!noted && who !== undefined && this.#isLive(who))
        this.violations.push(`G11: ${call} without a note`);
    }
    if (this.#failing > 0) {
      this.#failing -= 1;
      throw new UnavailableError(`${call}: no answer`, { outcome: "unknown" });
    }
  }

  /** Whether the node that the NIC belongs to has a move that could still swap an owner. */
  #isMoving(nic: string): boolean {
    return this.#all("intents/").some(({ value }) => {
      const { kind, step, from, to } = JSON.parse(value) as Record<string, string>;
      const isOpen = kind === "move" && (step === "preparing" || step === "moving");
      return isOpen && [from, to].some((name) => nic.startsWith(`eni-i-${name}-`));
    });
  }

  /** A killed controller's request never arrives. */
  #isLive(id: string): boolean {
    return this.#cluster.controllers.some(
      (known) => known.id === id && !known.cloud.dead && known.link.passing,
    );
  }

  #all(prefix: string): Entry[] {
    return this.#cluster.database.list(prefix, Number.POSITIVE_INFINITY, undefined);
  }

  #afterCommit(): void {
    const { database, vpc, clock } = this.#cluster;
    const slots = new Map(this.#all("slots/").map(({ key, value }) => [key.slice(6), JSON.parse(value)]));
    for (const { key, value } of this.#all("subnets/")) {
      for (const cidr of slotsOf(parseCidr(JSON.parse(value)), 24)) {
        const held = slots.get(formatCidr(cidr));
        if (held?.node !== key.slice(8))
          this.violations.push(`G1: ${key} owns ${value}, its slot says ${held?.node}`);
      }
    }
    for (const [id, nic] of vpc.nics) {
      if (this.#forced.has(nic.subnet)) continue;
      if (!slots.has(nic.subnet)) this.violations.push(`G5: ${nic.subnet} is free, ${id} still holds it`);
    }
    for (const { key, value } of this.#all("pool/")) {
      const ip = key.slice(5);
      const { node } = decode(leaseSchema, { key, value });
      const entry = database.get(keys.moved(ip));
      const server = entry ? decode(movedSchema, entry).node : undefined;
      const block = `${ip.slice(0, ip.lastIndexOf("."))}.0/24`;
      const owner = slots.get(block)?.node;
      if (node !== (server ?? owner) && owner !== "") {
        this.violations.push(`G2: ${ip} is leased by ${node}, and ${server ?? owner} may grant it`);
      }
      if (entry && !slots.has(block))
        this.violations.push(`G2: ${block} is free, and ${ip} is served elsewhere`);
    }
    for (const [ip, holder] of vpc.holders) {
      if (holder !== undefined && !database.get(keys.moved(ip))) {
        this.violations.push(`G2: ${holder} holds ${ip}, and no record says so`);
      }
    }
    for (const transaction of database.transactionsAfter(this.#seen) ?? []) this.#judge(transaction);
    this.#seen = database.revision;
    for (const { key, value } of this.#all("nodes/")) {
      const { status } = JSON.parse(value) as { status: string };
      if (status !== "suspect" && status !== "fencing") this.#troubled.delete(key);
      else if (!this.#troubled.has(key)) this.#troubled.set(key, clock.now());
    }
  }

  /** G6: a quarantine lasts as long as it says, unless its node takes the block back. */
  #judgeQuarantine(
    key: string,
    after: Entry | undefined,
    changes: readonly { key: string; after: Entry | undefined }[],
  ): void {
    const now = this.#cluster.clock.now();
    if (after) {
      const { from, until } = decode(quarantineSchema, after);
      this.#resting.set(key, { since: now, lengthMs: Date.parse(until) - Date.parse(from) });
      return;
    }
    const resting = this.#resting.get(key);
    const isTakenBack = changes.some((change) => change.key.startsWith("subnets/") && change.after);
    if (!resting || isTakenBack || now - resting.since >= resting.lengthMs - 1) return;
    this.violations.push(`G6: ${key} ended after ${now - resting.since} of ${resting.lengthMs} ms`);
  }

  #judge({
    changes,
  }: {
    readonly changes: readonly { key: string; after: Entry | undefined; before: Entry | undefined }[];
  }): void {
    const { database, clock } = this.#cluster;
    const paused = database.get(keys.pause) !== undefined && !changes.some(({ key }) => key === keys.pause);
    for (const { key, before, after } of changes) {
      const frees = key.startsWith("slots/") && (!after || after.value.includes('"node":""'));
      if (paused && frees) this.violations.push(`pause: ${key} is being freed`);
      if (key.startsWith("quarantine/")) this.#judgeQuarantine(key, after, changes);
      if (key.startsWith("quarantine/") && after && !after.value.includes('"fenced":true')) {
        const { from, until, intent = "" } = decode(quarantineSchema, after);
        const job = database.get(keys.intent(intent))?.value ?? "";
        if (!job.includes('"cause":"operator-forced"')) this.violations.push(`G5: ${key} was not fenced`);
        // G6: one lease time, less the silence that was seen, plus the margin; no less than an ordinary one.
        if (Date.parse(until) - Date.parse(from) < 60_000) this.violations.push(`G6: ${key} rests too short`);
      }
      if (key.startsWith("intents/reclaim") && !before && after?.value.includes('"cause":"instance-gone"')) {
        const since = [...this.#troubled.values()].filter((at) => clock.now() - at > tickMs);
        const owners = this.#all("subnets/").length;
        if (since.length >= 3 && since.length > 0.2 * owners && clock.now() < 300_000) {
          this.violations.push(`G13: a reclaim begins while ${since.length} of ${owners} are silent`);
        }
      }
    }
  }
}
