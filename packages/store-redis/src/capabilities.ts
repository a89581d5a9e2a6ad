import { CocoonError, InvalidError, type StoreCapabilities } from "@cocoon-net/core";
import type { Call, Connection } from "./connection.ts";
import { keyTypes, layoutVersion } from "./layout.ts";
import { limits } from "./request.ts";
import { incarnation, inspect } from "./scripts/inspect.ts";

export interface ServerTraits {
  readonly capabilities: StoreCapabilities;
  /** How many replicas must confirm a transaction that makes keys. */
  readonly wait: number;
}

/**
 * Reads what the server is and gives.
 * `end` is the deadline, by `performance.now`.
 * @throws {InvalidError} when it must not be used: it evicts keys, or its keys belong to another program.
 */
export async function readTraits(
  connection: Connection,
  signal: AbortSignal | undefined,
  end: number,
): Promise<ServerTraits> {
  const reading = {
    what: "read the server's configuration",
    writes: false,
    signal,
    get timeoutMs() {
      return Math.max(1, Math.round(end - performance.now()));
    },
  };
  const sections = ["server", "memory", "persistence", "replication"];
  const [, text, types, layout] = await connection.run(inspect, sections, reading);
  const info = parseInfo(String(text));
  const { label, topology, wait: wished } = connection.options;
  for (const [index, type] of (types as Buffer[]).map(String).entries()) {
    if (type === "none" || type === keyTypes[index]) continue;
    throw new InvalidError(`${label}: the key ${connection.key(index)} is a ${type} of another program`, {
      hint: "choose another prefix, as the path of the store URL",
    });
  }
  if (String(layout) !== layoutVersion) {
    throw new InvalidError(
      `${label}: what is there was written by another version of this program (layout ${layout ?? 1}, not ${layoutVersion})`,
      {
        hint: "export it with that version (`cocoon-net store export`), import it here under another prefix",
      },
    );
  }
  const policy = info.get("maxmemory_policy") ?? "unknown";
  if (policy !== "noeviction") {
    throw new InvalidError(
      `${label}: maxmemory-policy is ${policy}, so the server may drop keys of the cluster`,
      {
        hint: 'run "redis-cli config set maxmemory-policy noeviction" and set it in redis.conf',
      },
    );
  }
  const aof = info.get("aof_enabled") === "1";
  const replicas = Number(info.get("connected_slaves") ?? 0);
  const wait = wished ?? Math.min(replicas, 1);
  const valkey = info.get("valkey_version");
  const capabilities: StoreCapabilities = {
    server: valkey === undefined ? `Redis ${info.get("redis_version")}` : `Valkey ${valkey}`,
    // Behind Sentinel or in a Cluster, a primary that was cut off may answer until it learns of its successor.
    linearizable: topology === "standalone",
    pinnedReads: false,
    durability: [
      aof ? await fsyncSentence(connection, reading) : await snapshotSentence(connection, reading),
      ...(replicas > 0 || wait > 0 ? [await replicasSentence(connection, reading, replicas, wait)] : []),
    ].join("; "),
    // Replicas without an AOF do not help: a primary that restarts empty empties them.
    trustworthy: aof,
    ...limits,
  };
  return { capabilities, wait };
}

/** What an answer says of the server: its incarnation, the era of its database, and the newest revision there. */
export interface Standing {
  readonly incarnation: string;
  readonly era: string;
  readonly revision: number;
}

/**
 * The incarnation changes with every restart of the server, with the promotion of a replica (its process, and the history
 * that it branched from when it was promoted), when the database was emptied, and when it is behind what was `seen`.
 */
export async function readIncarnation(
  connection: Connection,
  seen: Pick<Standing, "era" | "revision">,
  call: Call,
): Promise<Standing> {
  const [, era, revision, value] = await connection.run(incarnation, [seen.era, seen.revision], call);
  return { incarnation: String(value), era: String(era), revision: Number(revision) };
}

async function replicasSentence(
  connection: Connection,
  call: Call,
  replicas: number,
  wait: number,
): Promise<string> {
  const fewest = await configuration(connection, "min-replicas-to-write", call);
  return [
    `replicas: ${replicas}, following asynchronously, so that a failover may lose the newest writes`,
    wait > 0 ? `new keys are confirmed by ${wait} (wait)` : "new keys are not confirmed by any (wait=0)",
    ...(fewest === "0"
      ? ["a primary that was cut off goes on taking writes that will be lost (min-replicas-to-write 0)"]
      : []),
    ...(fewest === undefined || fewest === "0"
      ? []
      : [`a primary without ${fewest} of them refuses all (min-replicas-to-write)`]),
  ].join(", ");
}

async function fsyncSentence(connection: Connection, call: Call): Promise<string> {
  switch (await configuration(connection, "appendfsync", call)) {
    case "always":
      return "every write is on the server's disk before its answer (AOF, appendfsync always)";
    case "everysec":
      return "writes reach the server's disk within about two seconds (AOF, appendfsync everysec): a crash may lose those";
    case "no":
      return "writes reach the server's disk when its kernel sees fit (AOF, appendfsync no): a crash of the machine may lose some 30 seconds";
    default:
      return "writes go to the server's disk (AOF), how soon is unknown: CONFIG is not permitted";
  }
}

async function snapshotSentence(connection: Connection, call: Call): Promise<string> {
  const save = await configuration(connection, "save", call);
  if (save === "") return "nothing survives a restart of the server (no AOF, no snapshots)";
  const when = save === undefined ? "" : ` (save ${save})`;
  return `only snapshots are kept${when}: a crash loses all writes since the last one (no AOF)`;
}

/** A value of CONFIG, or undefined where that is not permitted. In a Cluster, one node's, as all should be alike. */
async function configuration(connection: Connection, name: string, call: Call): Promise<string | undefined> {
  try {
    const [, value] = (await connection.command("config", ["GET", name], call)) as string[];
    return value;
  } catch (error) {
    if (error instanceof CocoonError && (error.code === "auth" || /unknown command/i.test(error.message))) {
      return undefined;
    }
    throw error;
  }
}

function parseInfo(text: string): Map<string, string> {
  const lines = text.split("\r\n").filter((line) => line.includes(":"));
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]));
}
