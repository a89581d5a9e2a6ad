import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { Backoff } from "@cocoon-net/core";
import { AbstractConnector, Redis } from "ioredis";
import { withDeadline } from "./deadline.ts";
import type { ResolvedOptions } from "./options.ts";

interface Node {
  readonly host: string;
  readonly port: number;
}

/** Time for one node to say who owns the slot. */
const askingMs = 1_500;

/**
 * Connects ioredis to the node of a Redis Cluster that owns the prefix's slot. As all keys of a prefix lie in one
 * slot, that is all a cluster asks of a client: who owns the slot is asked before each connection, as the primary's
 * address is asked of Sentinel, and a node that says MOVED is left (ioredis's own Cluster would hold connections
 * to all nodes, and send commands again to another node by itself).
 */
export function ownerConnector(options: ResolvedOptions): new () => AbstractConnector {
  // The nodes that held the slot last may be all that is left of those that were named.
  let learned: readonly Node[] = [];

  return class OwnerConnector extends AbstractConnector {
    constructor() {
      super(disconnectTimeoutMs);
    }

    /** Never rejects while it is wanted: what went wrong is emitted, and tried again. */
    async connect(emit: (type: string, error: Error) => void): Promise<Socket> {
      this.connecting = true;
      const backoff = new Backoff({ maxMs: 500 });
      for (;;) {
        try {
          const shard = await findShard([...options.hosts, ...learned], options);
          if (!this.connecting) break;
          learned = shard.nodes;
          const { tls } = options;
          this.stream = tls === undefined ? connectTcp(shard.owner) : connectTls({ ...shard.owner, ...tls });
          this.stream.once("error", (error: Error) => {
            this.firstError = error;
          });
          return this.stream;
        } catch (error) {
          if (!this.connecting) break;
          emit("error", error instanceof Error ? error : new Error(String(error)));
        }
        await backoff.wait();
        if (!this.connecting) break;
      }
      throw new Error("Connection is closed.");
    }
  };
}

/** What a connection that is being closed waits for its other side. */
export const disconnectTimeoutMs = 200;

interface Shard {
  readonly owner: Node;
  readonly nodes: readonly Node[];
}

/** The first answer of a node that sees the cluster in order. */
async function findShard(nodes: readonly Node[], options: ResolvedOptions): Promise<Shard> {
  const known = new Map(nodes.map((node) => [`${node.host}:${node.port}`, node]));
  try {
    return await Promise.any([...known.values()].map((node) => askForShard(node, options)));
  } catch (error) {
    if (!(error instanceof AggregateError)) throw error;
    // A node that answers with a refusal says more than one that does not answer.
    const errors: Error[] = error.errors;
    throw errors.find(({ name }) => name === "ReplyError") ?? errors[0] ?? error;
  }
}

async function askForShard(node: Node, options: ResolvedOptions): Promise<Shard> {
  const { username, password, tls, prefix } = options;
  const client = new Redis({
    ...node,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls: { ...tls } }),
    lazyConnect: true,
    protocol: 2,
    disableClientInfo: true,
    enableReadyCheck: false,
    enableOfflineQueue: false,
    retryStrategy: () => null,
  });
  let cause: Error | undefined;
  client.on("error", (error: Error) => {
    cause = error;
  });
  try {
    return await withDeadline(askingMs, undefined, async () => {
      await client.connect();
      const [info, slot, ranges] = await Promise.all([
        client.call("cluster", "INFO"),
        client.call("cluster", "KEYSLOT", prefix),
        client.call("cluster", "SLOTS"),
      ]);
      if (!String(info).includes("cluster_state:ok")) throw downError(`${node.host}:${node.port} sees it so`);
      const range = (ranges as readonly SlotRange[]).find(
        ([first, last]) => first <= Number(slot) && Number(slot) <= last,
      );
      if (range === undefined) throw downError(`nobody owns slot ${slot}`);
      const [, , ...replies] = range;
      // A node that does not know its own name means the one that it was reached by.
      const nodes = replies.map(([host, port]) => ({ host: host && host !== "?" ? host : node.host, port }));
      const [owner] = nodes;
      if (owner === undefined) throw downError(`nobody owns slot ${slot}`);
      return { owner, nodes };
    });
  } catch (error) {
    throw cause ?? error;
  } finally {
    client.disconnect();
  }
}

type SlotRange = readonly [
  first: number,
  last: number,
  ...nodes: (readonly [host: string | null, port: number])[],
];

/** As the server says it. */
function downError(what: string): Error {
  return Object.assign(new Error(`CLUSTERDOWN The cluster is down: ${what}`), { name: "ReplyError" });
}
