import { type ConnectionUrl, InvalidError, keyPrefixOf, rejectUnknownParameters } from "@cocoon-net/core";
import { Certificates, type EtcdTlsOptions } from "./certificates.ts";

/** Where etcd is and how to get in, for programs that do not use a URL. */
export interface EtcdStoreOptions {
  /** The members. Port default 2379. */
  readonly hosts: readonly { readonly host: string; readonly port?: number }[];
  /** Put, with a slash, before every key; default `/cocoon-net`. */
  readonly prefix?: string;
  readonly username?: string;
  readonly password?: string;
  /** Given: TLS, with `{}` for the system's roots and no client certificate. */
  readonly tls?: EtcdTlsOptions;
}

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface ResolvedEtcdOptions {
  readonly endpoints: readonly Endpoint[];
  /** `h1:2379,h2:2379`, for messages. */
  readonly where: string;
  readonly label: string;
  /** With its trailing slash. */
  readonly prefix: string;
  readonly auth: { readonly username: string; readonly password: string } | undefined;
  /** Absent: no TLS. */
  readonly tls: Certificates | undefined;
}

/** @throws {InvalidError} for what can never work as given. */
export function resolveEtcdOptions(options: EtcdStoreOptions, label?: string): ResolvedEtcdOptions {
  const { username, password, tls } = options;
  const endpoints = options.hosts.map(({ host, port }) => ({ host, port: port ?? 2379 }));
  if (endpoints.length === 0) {
    throw new InvalidError("etcd store names no host", { hint: "write etcd://HOST:2379" });
  }
  if ((username === undefined) !== (password === undefined)) {
    throw new InvalidError("etcd store has only one of user name and password; it takes both or none");
  }
  if ((tls?.cert === undefined) !== (tls?.key === undefined)) {
    throw new InvalidError("etcd store has only one of TLS cert and key; it takes both or none");
  }
  const prefix = (options.prefix ?? "/cocoon-net").replace(/\/+$/, "");
  const where = endpoints.map(formatEndpoint).join(",");
  const user = username === undefined ? "" : `${encodeURIComponent(username)}@`;
  const printed = label ?? `etcd${tls ? "s" : ""}://${user}${where}${prefix}`;
  return {
    endpoints,
    where,
    label: printed,
    prefix: `${prefix}/`,
    auth: username === undefined || password === undefined ? undefined : { username, password },
    tls: tls && new Certificates(tls, printed),
  };
}

/**
 * Reads `etcd://` and `etcds://`; the parameters `ca`, `cert` and `key` of the latter are paths of PEM files.
 * @throws {InvalidError}
 */
export function resolveEtcdUrl(url: ConnectionUrl): ResolvedEtcdOptions {
  const secure = url.scheme === "etcds";
  if (!secure && ["ca", "cert", "key"].some((name) => url.parameters.has(name))) {
    throw new InvalidError(`store URL ${url.label} has TLS files but a scheme without TLS`, {
      hint: "write etcds://",
    });
  }
  rejectUnknownParameters(url, secure ? ["ca", "cert", "key"] : []);
  return resolveEtcdOptions(
    {
      hosts: url.hosts.map(({ host, port }) => (port === undefined ? { host } : { host, port })),
      prefix: keyPrefixOf(url),
      ...(url.username === undefined ? {} : { username: url.username }),
      ...(url.password === undefined ? {} : { password: url.password }),
      ...(secure ? { tls: Object.fromEntries(url.parameters) } : {}),
    },
    url.label,
  );
}

export function formatEndpoint({ host, port }: Endpoint): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
