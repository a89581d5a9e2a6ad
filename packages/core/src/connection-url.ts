import ipaddr from "ipaddr.js";
import { InvalidError } from "./errors.ts";

export interface HostPort {
  readonly host: string;
  /** Undefined when the URL names none: the backend's default applies. */
  readonly port: number | undefined;
}

/** A store address in parts. Unlike WHATWG URLs it may name several hosts, separated by commas. */
export interface ConnectionUrl {
  /** Without the colon: `etcd`, `etcds`, `redis+sentinel`, `memory`. */
  readonly scheme: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly hosts: readonly HostPort[];
  /** Decoded, with its leading slash; empty when there is none. */
  readonly path: string;
  readonly parameters: ReadonlyMap<string, string>;
  /** The URL without its password; safe to print. */
  readonly label: string;
}

export interface ParseUrlOptions {
  /** Reads the file that `password-file` names. Without it such a URL is refused: core itself reads no files. */
  readonly readSecretFile?: (path: string) => string;
}

const form = "scheme://[user:password@]host[:port][,host…][/prefix][?name=value]";
/** `token-file=…` is no secret, `token=…` is. */
const secretName = /(^|[-_])(password|passwd|secret|token)$/i;

/**
 * Parses `scheme://[user[:password]@]host[:port][,host[:port]…][/path][?name=value&…]`, and `scheme:` alone.
 * `password-file=PATH` takes the password from a file (one trailing newline is dropped). `/`, `?` and `@` inside
 * a user name or password, and `@` anywhere else, must be percent-encoded. Secrets in the query are refused.
 * @throws {InvalidError} naming the part that is wrong, never the password or what may be a piece of it.
 */
export function parseConnectionUrl(text: string, options: ParseUrlOptions = {}): ConnectionUrl {
  const url = text.trim().toWellFormed();
  const match = /^([a-z][a-z0-9+.-]*):(?:(\/\/)(?:([^@/?]*)@)?([^@/?]*)(\/[^@?]*)?)?(?:\?([^@]*))?$/i.exec(
    url,
  );
  if (!match) {
    // With an @ or a query in it, nobody can tell which part of a malformed URL is the password.
    throw /[@?]/.test(url)
      ? new InvalidError(`store URL is not of the form ${form}`, {
          hint: "percent-encode special characters: @ is %40, / is %2F, ? is %3F",
        })
      : new InvalidError(`store URL "${url}" is not of the form ${form}`);
  }
  const [, scheme = "", slashes = "", credentials, authority = "", rawPath = "", query = ""] = match;
  const parameters = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(query)) {
    if (secretName.test(name)) {
      throw new InvalidError(`store URL has a secret in its query: "${name}"`, {
        hint: "write it before the host (scheme://user:password@host), or use password-file",
      });
    }
    if (parameters.has(name)) throw new InvalidError(`store URL names the parameter "${name}" twice`);
    parameters.set(name, value);
  }
  const [rawUsername = "", ...afterColon] = credentials?.split(":") ?? [];
  const written = afterColon.length === 0 ? undefined : decode(afterColon.join(":"), "password");
  const parts = {
    scheme: scheme.toLowerCase(),
    username: decode(rawUsername, "user name") || undefined,
    password: takePasswordFile(parameters, written, options) ?? written,
    hosts: authority === "" ? [] : authority.split(",").map((item) => parseHost(item)),
    path: decode(rawPath, "path").replace(/\/+$/, ""),
    parameters,
  };
  return { ...parts, label: labelOf(parts, slashes) };
}

/** A store URL is wrong in itself, whatever the store is like. */
export class UnknownParameterError extends InvalidError {}

/** @throws {UnknownParameterError} when the URL has a parameter that the backend does not know. */
export function rejectUnknownParameters(url: ConnectionUrl, known: readonly string[]): void {
  for (const name of url.parameters.keys()) {
    if (known.includes(name)) continue;
    const list = known.length > 0 ? `it takes ${known.join(", ")}` : "it takes none";
    throw new UnknownParameterError(
      `store URL ${url.scheme}: does not know the parameter "${name}"; ${list}`,
    );
  }
}

/** The key prefix that a URL's path means, without a trailing slash: `/cocoon-net` when it has none. */
export function keyPrefixOf(url: ConnectionUrl): string {
  return url.path === "" ? "/cocoon-net" : url.path;
}

function takePasswordFile(
  parameters: Map<string, string>,
  written: string | undefined,
  { readSecretFile }: ParseUrlOptions,
): string | undefined {
  const file = parameters.get("password-file");
  if (file === undefined) return undefined;
  parameters.delete("password-file");
  if (written !== undefined) {
    throw new InvalidError("store URL has both a password and password-file; keep one");
  }
  if (!readSecretFile) {
    throw new InvalidError("store URL has password-file, but no files are read here", {
      hint: "give parseConnectionUrl a readSecretFile",
    });
  }
  try {
    return readSecretFile(file).replace(/\r?\n$/, "");
  } catch (cause) {
    throw new InvalidError(`password file ${file} cannot be read`, {
      cause,
      hint: "check its path and mode",
    });
  }
}

function parseHost(item: string): HostPort {
  const match = /^(?:\[([^\]]*)\]|([a-z0-9._-]+))(?::(\d{1,5}))?$/i.exec(item);
  const [, v6, name, digits] = match ?? [];
  const host = v6 ?? name;
  const port = digits === undefined ? undefined : Number(digits);
  const valid =
    host !== undefined &&
    (v6 === undefined || ipaddr.IPv6.isValid(v6)) &&
    (port === undefined || (port >= 1 && port <= 65_535));
  if (valid) return { host, port };
  // What follows a colon is not shown: where a / or ? split the URL too early, it is a piece of the password.
  const shown = item.startsWith("[") ? item.replace(/\].*/, "]") : item.replace(/:.*/, ":…");
  throw new InvalidError(
    `store URL has a malformed host "${shown}"; write host, host:port or [IPv6]:port, with a port from 1 to 65535`,
  );
}

function labelOf(url: Omit<ConnectionUrl, "label">, slashes: string): string {
  const user = url.username === undefined ? "" : `${encodeURIComponent(url.username)}@`;
  const hosts = url.hosts.map(({ host, port }) => {
    const name = host.includes(":") ? `[${host}]` : host;
    return port === undefined ? name : `${name}:${port}`;
  });
  const path = encodeURI(url.path).replace(/[?#@]/g, encodeURIComponent);
  const query = url.parameters.size > 0 ? `?${new URLSearchParams([...url.parameters])}` : "";
  return `${url.scheme}:${slashes}${user}${hosts.join(",")}${path}${query}`;
}

function decode(text: string, part: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InvalidError(`store URL has a malformed percent-escape in its ${part}`);
  }
}
