import { readFileSync } from "node:fs";
import { rootCertificates } from "node:tls";
import { type ConnectionUrl, InvalidError, keyPrefixOf, rejectUnknownParameters } from "@cocoon-net/core";

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

/** PEM texts. */
export interface EtcdTlsOptions {
  /** Who may have signed the server's certificate; default the roots that Node.js ships. */
  readonly ca?: Buffer;
  /** The client's certificate chain; needs `key`. */
  readonly cert?: Buffer;
  readonly key?: Buffer;
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
  readonly tls: EtcdTlsOptions | undefined;
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
  return {
    endpoints,
    where,
    label:
      label ??
      `etcd${tls ? "s" : ""}://${username === undefined ? "" : `${encodeURIComponent(username)}@`}${where}${prefix}`,
    prefix: `${prefix}/`,
    auth: username === undefined || password === undefined ? undefined : { username, password },
    tls,
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
      ...(secure ? { tls: { ...pemFile(url, "ca"), ...pemFile(url, "cert"), ...pemFile(url, "key") } } : {}),
    },
    url.label,
  );
}

export function formatEndpoint({ host, port }: Endpoint): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** In the client's words; undefined when its own defaults mean the same. */
export function clientCredentials(
  tls: EtcdTlsOptions | undefined,
): { rootCertificate: Buffer; privateKey?: Buffer; certChain?: Buffer } | undefined {
  if (tls?.ca === undefined && tls?.cert === undefined) return undefined;
  return {
    rootCertificate: tls.ca ?? Buffer.from(rootCertificates.join("\n")),
    ...(tls.key === undefined ? {} : { privateKey: tls.key }),
    ...(tls.cert === undefined ? {} : { certChain: tls.cert }),
  };
}

function pemFile<N extends "ca" | "cert" | "key">(url: ConnectionUrl, name: N): { [K in N]?: Buffer } {
  const path = url.parameters.get(name);
  if (path === undefined) return {};
  let pem: Buffer;
  try {
    pem = readFileSync(path);
  } catch (cause) {
    throw new InvalidError(`TLS file ${path} (${name}=) of store URL ${url.label} cannot be read`, { cause });
  }
  // The TLS library takes a file without one for an empty list of roots, and then trusts nobody.
  if (!pem.includes("-----BEGIN ")) {
    throw new InvalidError(`TLS file ${path} (${name}=) of store URL ${url.label} is not in PEM form`);
  }
  return { [name]: pem } as { [K in N]?: Buffer };
}
