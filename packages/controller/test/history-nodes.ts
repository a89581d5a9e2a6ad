import {
  decode,
  type Entry,
  FencedError,
  keys,
  type LeaseRecord,
  movedSchema,
  type Registration,
  Registry,
  type TxnRequest,
  UnavailableError,
  writeMovedLease,
} from "@cocoon-net/core";
import { MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";
import { isSure, type Member } from "./history-guarantees.ts";
import { changesCluster, InterposedStore } from "./interposed-store.ts";
import type { Nic } from "./scripted-cloud.ts";
import { SimulatedAgent } from "./simulated-agent.ts";
import type { TestCluster } from "./test-cluster.ts";

/** A member with its way to the store. */
export interface LinkedMember extends Member {
  readonly link: MemoryLink;
  readonly faults: { losesAnswer: boolean };
}

export interface NodesWatch {
  /** A node's transaction, before it is sent. */
  readonly onTxn: (node: string, request: TxnRequest) => void;
  readonly onViolation: (text: string) => void;
}

/** The nodes of a history: what they, and the agents and guests on them, do. */
export class HistoryNodes {
  readonly members: LinkedMember[] = [];
  /** The instance that each NIC was made for, or has taken over. */
  readonly nicOwners = new Map<string, string>();
  readonly #cluster: TestCluster;
  readonly #watch: NodesWatch;
  /** Registrations that have been replaced. */
  readonly #former: { readonly registration: Registration; readonly member: LinkedMember }[] = [];
  #heirs = 0;
  #made = 0;

  constructor(cluster: TestCluster, watch: NodesWatch) {
    this.#cluster = cluster;
    this.#watch = watch;
  }

  /** The node can grant, and be answered. */
  isHeard(member: LinkedMember): boolean {
    return isSure(member) && member.link.passing;
  }

  async join(name: string): Promise<void> {
    const cluster = this.#cluster;
    const link = new MemoryLink();
    const faults = { losesAnswer: false };
    const store = new InterposedStore(openMemoryStore({ database: cluster.database, link }));
    store.intercept = async (request, forward) => {
      this.#watch.onTxn(name, request);
      const result = await forward();
      // A registration would wait for real seconds; core's own tests lose its answers.
      const isClaim = request.then?.some(
        (operation) => "put" in operation && operation.put.startsWith("subnets/"),
      );
      if (!faults.losesAnswer || isClaim || !changesCluster(request)) return result;
      faults.losesAnswer = false;
      throw new UnavailableError(`${name}: no answer`, { outcome: "unknown" });
    };
    const node = await cluster.join(name, `i-${name}`, { store });
    for (const [id, { instanceID }] of cluster.vpc.nics) {
      if (instanceID === `i-${name}`) this.nicOwners.set(id, instanceID);
    }
    this.members.push({ node, agent: new SimulatedAgent(store, node), link, faults });
  }

  async silence({ node, link }: LinkedMember): Promise<void> {
    const ended = node.session?.[Symbol.asyncDispose]();
    node.session = undefined;
    if (link.passing) await ended;
  }

  /** What an agent does that starts again: it claims what it had; refused, it joins anew, with its interfaces. */
  async return(member: LinkedMember): Promise<void> {
    const { uid } = member.node.registration;
    if (isSure(member) || !member.link.passing) return;
    this.#cluster.vpc.instances.set(uid, "running");
    try {
      await this.#cluster.speak(member.node);
    } catch (error) {
      if (error instanceof UnavailableError) throw error;
      await this.#joinAnew(member, uid);
    }
  }

  /** Another instance takes the name of one that is gone. */
  async inherit(member: LinkedMember): Promise<void> {
    const { uid, node } = member.node.registration;
    if (member.node.session || !member.link.passing) return;
    this.#cluster.vpc.instances.set(uid, "gone");
    this.#heirs += 1;
    const heir = `i-${node}-${this.#heirs}`;
    this.#cluster.vpc.instances.set(heir, "running");
    await this.#joinAnew(member, heir);
  }

  /** The node gives everything back itself: first at the cloud, then in the store. */
  async tearDown(member: LinkedMember): Promise<void> {
    const { name, registration } = member.node;
    const moves = this.#all("moved/").map((entry) => decode(movedSchema, entry));
    const isMoved = moves.some(
      ({ node, subnet, move }) =>
        [node, move?.from, move?.to].includes(name) || subnet === registration.subnet,
    );
    if (!this.isHeard(member) || isMoved) return;
    const { nics } = this.#cluster.vpc;
    for (const [id, nic] of nics) if (nic.subnet === registration.subnet) nics.delete(id);
    await registration.leave();
    await this.silence(member);
  }

  async #joinAnew(member: LinkedMember, uid: string): Promise<void> {
    const cluster = this.#cluster;
    const { vpc } = cluster;
    const { name, store, registration: former } = member.node;
    const registry = new Registry(store, { now: () => cluster.date() });
    // A NIC that is made has an id of its own: its instance's former one may be another's by now.
    this.#made += 1;
    const attached = [...vpc.nics].filter(([, { instanceID }]) => instanceID === uid).map(([id]) => id);
    const own = attached.length > 0 ? attached : [0, 1].map((nth) => `eni-${uid}-new${this.#made}-${nth}`);
    const request = { node: name, uid, instanceID: uid, platform: "scripted", agentVersion: "1.0.0" };
    const registration = await registry.register({ ...request, eniIDs: own });
    await member.agent.stop();
    this.#former.push({ registration: former, member });
    // What is left in the block, or was kept warm there, is attached instead of made.
    const isLeft = ({ subnet, instanceID }: Nic) =>
      subnet === registration.subnet && instanceID === undefined;
    const left = [...vpc.nics].filter(([, nic]) => isLeft(nic)).map(([id]) => id);
    const nics = left.length > 0 ? left : own;
    for (const id of nics) {
      vpc.warm.delete(id);
      vpc.nics.set(id, { subnet: registration.subnet, instanceID: uid });
      this.nicOwners.set(id, uid);
    }
    member.node = { name, store, registration, session: undefined };
    member.agent = new SimulatedAgent(store, member.node);
    if (left.length > 0) await registration.update({ eniIDs: nics });
    await cluster.speak(member.node);
  }

  /** A node that has lost its subnet, and does not know, goes on writing (G3). */
  async haunt(ms: number, other: number): Promise<void> {
    const now = this.members.map((member) => ({ registration: member.node.registration, member }));
    const ghosts = [...this.#former, ...now].filter(
      ({ registration: { node, epoch }, member }) =>
        member.link.passing && this.#cluster.database.get(keys.subnet(node))?.modRevision !== epoch,
    );
    const registration = ghosts[ms % Math.max(ghosts.length, 1)]?.registration;
    if (!registration) return;
    const ip = hostOf(registration.subnet, 7);
    const writes = [
      () => registration.mirror([[ip, leaseOf(registration.node, ip)]]),
      () => registration.update({ agentVersion: "0.9.0" }),
      () => registration.verify(),
    ];
    try {
      await writes[other % writes.length]?.();
      this.#watch.onViolation(`G3: ${registration.node} has lost its subnet, and may write`);
    } catch (error) {
      if (!(error instanceof FencedError)) throw error;
    }
  }

  /** A guest leaves the address, or comes, as the agent that may say so writes it. */
  async guest(ip: string, comes: boolean): Promise<void> {
    const { database } = this.#cluster;
    const entry = database.get(keys.moved(ip));
    if (entry) {
      const moved = decode(movedSchema, entry);
      const server = this.members.find(
        ({ node: { name, registration } }) => name === moved.node && registration.uid === moved.uid,
      );
      if (!server || !this.isHeard(server) || moved.move || (comes && database.get(keys.pool(ip)))) return;
      const lease = comes ? leaseOf(moved.node, ip) : undefined;
      await writeMovedLease(server.node.store, server.node.registration, entry, lease);
      return;
    }
    const owner = this.members.find(
      ({ node: { name, registration } }) =>
        database.get(keys.subnet(name))?.modRevision === registration.epoch &&
        hostOf(registration.subnet, 0) === hostOf(ip, 0),
    );
    if (!owner || !this.isHeard(owner)) return;
    const { registration, name } = owner.node;
    const isDraining = database.get(keys.node(name))?.value.includes("draining");
    if (comes && (database.get(keys.pool(ip)) || isDraining)) return;
    await registration.mirror([[ip, comes ? leaseOf(name, ip) : undefined]]);
  }

  #all(prefix: string): Entry[] {
    return this.#cluster.database.list(prefix, Number.POSITIVE_INFINITY, undefined);
  }
}

/** An address by its last part, in the /24 of another, or in that block. */
export function hostOf(near: string, host: number): string {
  return `${near.slice(0, near.lastIndexOf(".") + 1)}${host}`;
}

export function leaseOf(node: string, ip: string): LeaseRecord {
  return { node, mac: `02:00:00:00:00:0${ip.slice(-1)}`, expiry: "2026-01-02T00:00:00.000Z", seq: 9 };
}
