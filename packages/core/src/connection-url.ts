import { readFileSync } from "node:fs";
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

const secretParameters = new Set(["password", "password-file", "token"]);

/**
 * Parses `scheme://[user[:password]@]host[:port][,host[:port]…][/path][?name=value&…]`, and `scheme:` alone.
 * `password-file=PATH` reads the password from a file (one trailing newline is dropped).
 * @throws {InvalidError} naming the part that is wrong, never the password.
 */
export function parseConnectionUrl(text: string): ConnectionUrl {
  const match = /^([a-z][a-z0-9+.-]*):(?:\/\/(?:([^@/?]*)@)?([^/?]*)(\/[^?]*)?)?(?:\?(.*))?$/i.exec(
    text.trim(),
  );
  if (!match) {
    throw new InvalidError(
      `store URL "${redact(text)}" is not of the form scheme://[user:password@]host[:port][,host…][/prefix][?name=value]`,
    );
  }
  const [, scheme = "", credentials, authority = "", rawPath = "", query = ""] = match;
  const parameters = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(query)) {
    if (parameters.has(name)) throw new InvalidError(`store URL names the parameter "${name}" twice`);
    parameters.set(name, value);
  }
  const colon = credentials?.indexOf(":") ?? -1;
  const username =
    credentials === undefined
      ? undefined
      : decode(colon < 0 ? credentials : credentials.slice(0, colon), "user name");
  let password =
    credentials === undefined || colon < 0 ? undefined : decode(credentials.slice(colon + 1), "password");
  const passwordFile = parameters.get("password-file");
  if (passwordFile !== undefined) {
    parameters.delete("password-file");
    if (password !== undefined)
      throw new InvalidError("store URL has both a password and password-file; keep one");
    try {
      password = readFileSync(passwordFile, "utf8").replace(/\r?\n$/, "");
    } catch (cause) {
      throw new InvalidError(`password file ${passwordFile} cannot be read`, { cause });
    }
  }
  const hosts = authority === "" ? [] : authority.split(",").map((item) => parseHost(item));
  const path = decode(rawPath, "path").replace(/\/+$/, "");
  const shown = [...parameters].filter(([name]) => !secretParameters.has(name));
  const label =
    `${scheme}:${match[3] === undefined ? "" : "//"}${username ? `${username}@` : ""}${authority}${path}` +
    (shown.length > 0 ? `?${new URLSearchParams(shown)}` : "");
  return {
    scheme: scheme.toLowerCase(),
    username: username || undefined,
    password,
    hosts,
    path,
    parameters,
    label,
  };
}

/** @throws {InvalidError} when the URL has a parameter that the backend does not know. */
export function rejectUnknownParameters(url: ConnectionUrl, known: readonly string[]): void {
  for (const name of url.parameters.keys()) {
    if (known.includes(name)) continue;
    const list = known.length > 0 ? `it takes ${known.join(", ")}` : "it takes none";
    throw new InvalidError(`store URL ${url.scheme}: does not know the parameter "${name}"; ${list}`);
  }
}

/** The key prefix that a URL's path means, without a trailing slash: `/cocoon-net` when it has none. */
export function keyPrefixOf(url: ConnectionUrl): string {
  return url.path === "" ? "/cocoon-net" : url.path;
}

function parseHost(item: string): HostPort {
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/i.exec(item);
  const port = match?.[2] === undefined ? undefined : Number(match[2]);
  if (!match?.[1] || (port !== undefined && (port < 1 || port > 65_535))) {
    throw new InvalidError(`store URL has a malformed host "${item}"; write host or host:port`);
  }
  return { host: match[1].replace(/^\[|\]$/g, ""), port };
}

function decode(text: string, part: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InvalidError(`store URL has a malformed percent-escape in its ${part}`);
  }
}

function redact(text: string): string {
  return text.replace(/\/\/[^@/]*@/, "//…@");
}
