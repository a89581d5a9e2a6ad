import { readFileSync } from "node:fs";
import {
  type ConnectionUrl,
  type HostPort,
  InvalidError,
  keyPrefixOf,
  rejectUnknownParameters,
} from "@cocoon-net/core";

export interface RedisStoreOptions {
  /** Default `standalone`. */
  readonly topology?: "standalone" | "sentinel" | "cluster";
  /** The server, the sentinels, or nodes of the cluster. Default ports 6379, 26379 and 6379. */
  readonly hosts: readonly { readonly host: string; readonly port?: number | undefined }[];
  /** Name of the primary that the sentinels watch. */
  readonly sentinelName?: string | undefined;
  readonly sentinelUsername?: string | undefined;
  readonly sentinelPassword?: string | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** Number of the database; default 0, the only one of a cluster. */
  readonly db?: number;
  /** Put before every key; default `/cocoon-net`. */
  readonly prefix?: string;
  /** Speak TLS. Texts are PEM; `servername` is the name that the certificate must have, default the host. */
  readonly tls?: RedisTlsOptions | undefined;
  /** About how many of the newest changes watchers can catch up on; default 100,000, some 300 bytes each. */
  readonly history?: number;
  /**
   * Replicas that must have confirmed a transaction that makes keys before it counts as done; default 1 when the
   * server has replicas at the time it is opened, else 0.
   */
  readonly wait?: number | undefined;
  /** For messages; default made of the rest. */
  readonly label?: string;
}

export interface RedisTlsOptions {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly servername?: string;
}

export interface ResolvedOptions {
  readonly topology: "standalone" | "sentinel" | "cluster";
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly sentinelName: string | undefined;
  readonly sentinelUsername: string | undefined;
  readonly sentinelPassword: string | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  readonly prefix: string;
  readonly tls: RedisTlsOptions | undefined;
  readonly history: number;
  readonly wait: number | undefined;
  readonly label: string;
}

const schemes = {
  redis: "standalone",
  rediss: "standalone",
  "redis+sentinel": "sentinel",
  "redis+cluster": "cluster",
} as const;

export const redisSchemes: readonly string[] = Object.keys(schemes);

const parametersOf = {
  standalone: ["db", "history", "wait"],
  sentinel: ["db", "history", "wait", "tls", "sentinel-username", "sentinel-password-file"],
  cluster: ["history", "wait", "tls"],
} as const;
const tlsParameters = ["ca", "cert", "key", "servername"] as const;

/** @throws {InvalidError} naming what is wrong. */
export function resolveOptions(options: RedisStoreOptions): ResolvedOptions {
  const topology = options.topology ?? "standalone";
  const defaultPort = topology === "sentinel" ? 26_379 : 6_379;
  const hosts = options.hosts.map(({ host, port }) => ({ host, port: port ?? defaultPort }));
  const names = hosts.map(({ host, port }) => `${host}:${port}`).join(",");
  const label = options.label ?? `redis ${topology} ${names}`;
  const refuse = (what: string, hint: string) => {
    throw new InvalidError(`${label}: ${what}`, { hint });
  };
  if (hosts.length === 0) refuse("no host is named", "write redis://host:port");
  if (topology === "standalone" && hosts.length > 1) {
    refuse("several hosts are named", "use redis+sentinel:// or redis+cluster:// for several");
  }
  if (topology === "sentinel" && !options.sentinelName) {
    refuse("the primary's name is missing", "write redis+sentinel://host,host/NAME, as in sentinel.conf");
  }
  const { db = 0, history = 100_000, wait } = options;
  if (!Number.isSafeInteger(db) || db < 0) refuse(`db ${db} is not a database number`, "use 0 to 15");
  if (topology === "cluster" && db !== 0) refuse("a cluster has database 0 only", "leave db out");
  if (!Number.isSafeInteger(history) || history < 100) {
    refuse(`history ${history} is not a number of changes`, "use 100 or more");
  }
  if (wait !== undefined && !(Number.isSafeInteger(wait) && wait >= 0)) {
    refuse(`wait ${wait} is not a number of replicas`, "use 0, 1 or more");
  }
  return {
    topology,
    hosts,
    sentinelName: options.sentinelName,
    sentinelUsername: options.sentinelUsername,
    sentinelPassword: options.sentinelPassword,
    username: options.username,
    password: options.password,
    db,
    prefix: options.prefix ?? "/cocoon-net",
    tls: options.tls,
    history,
    wait,
    label,
  };
}

/**
 * `redis[s]://[user[:password]@]host[:port][/prefix]`, `redis+sentinel://sentinel[,sentinel…]/name[/prefix]`,
 * `redis+cluster://node[,node…][/prefix]`; parameters as in the README.
 * @throws {InvalidError} naming the part that is wrong.
 */
export function optionsFromUrl(url: ConnectionUrl): RedisStoreOptions {
  const topology = schemes[url.scheme as keyof typeof schemes];
  if (topology === undefined) {
    throw new InvalidError(`store URL ${url.label} is none of ${redisSchemes.join(", ")}`);
  }
  const secured = url.scheme === "rediss" || url.parameters.get("tls") === "true";
  rejectUnknownParameters(url, [...parametersOf[topology], ...(url.scheme === "redis" ? [] : tlsParameters)]);
  const { parameters } = url;
  const tls = parameters.get("tls") ?? "false";
  if (tls !== "true" && tls !== "false") {
    throw new InvalidError(`store URL ${url.label}: tls is "${tls}"`, {
      hint: "write tls=true or leave it out",
    });
  }
  if (!secured && tlsParameters.some((name) => parameters.has(name))) {
    throw new InvalidError(`store URL ${url.label} names a certificate, but not TLS`, {
      hint: "add tls=true",
    });
  }
  const [, sentinelName, rest = ""] = /^\/([^/]+)(\/.*)?$/.exec(url.path) ?? [];
  const [db, history, wait] = [number(url, "db"), number(url, "history"), number(url, "wait")];
  return {
    topology,
    hosts: url.hosts satisfies readonly HostPort[],
    username: url.username,
    password: url.password,
    label: url.label,
    ...(topology === "sentinel"
      ? {
          sentinelName,
          prefix: keyPrefixOf({ ...url, path: rest }),
          sentinelUsername: parameters.get("sentinel-username"),
          sentinelPassword: file(url, "sentinel-password-file")?.replace(/\r?\n$/, ""),
        }
      : { prefix: keyPrefixOf(url) }),
    ...(db === undefined ? {} : { db }),
    ...(history === undefined ? {} : { history }),
    wait,
    ...(secured ? { tls: tlsOf(url) } : {}),
  };
}

function tlsOf(url: ConnectionUrl): RedisTlsOptions {
  const [ca, cert, key] = [file(url, "ca"), file(url, "cert"), file(url, "key")];
  const servername = url.parameters.get("servername");
  if ((cert === undefined) !== (key === undefined)) {
    throw new InvalidError(`store URL ${url.label} names only one of cert and key`, { hint: "give both" });
  }
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(servername === undefined ? {} : { servername }),
  };
}

function file(url: ConnectionUrl, name: string): string | undefined {
  const path = url.parameters.get(name);
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new InvalidError(`store URL ${url.label}: the file ${path} of ${name} cannot be read`, { cause });
  }
}

function number(url: ConnectionUrl, name: string): number | undefined {
  const text = url.parameters.get(name);
  if (text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(text))
    throw new InvalidError(`store URL ${url.label}: ${name} "${text}" is not a number`);
  return Number(text);
}
