import { type Address, InvalidError, parseAddress, parseCidr } from "@cocoon-net/core";

/**
 * What guests are told, as an operator writes it: for the subnet, or for one reservation, whose settings win one by one.
 * Addresses are dotted quads. An empty list means "not sent".
 */
export interface OptionSettings {
  /** Option 1. Default: the subnet's. */
  readonly subnetMask?: string;
  /** Option 3. Default: the gateway. */
  readonly routers?: readonly string[];
  /** Option 6. Default: `EngineOptions.dns`. */
  readonly dns?: readonly string[];
  /** Option 12. */
  readonly hostname?: string;
  /** Option 15. */
  readonly domain?: string;
  /** Option 26, bytes. */
  readonly mtu?: number;
  /** Option 42. */
  readonly ntp?: readonly string[];
  /** Option 58 (T1), ms. Default half of the lease. */
  readonly renewMs?: number;
  /** Option 59 (T2), ms. Default 7/8 of the lease. */
  readonly rebindMs?: number;
  /** Option 66, and `sname` when there is room. */
  readonly tftpServer?: string;
  /** Option 67, and `file` when there is room. */
  readonly bootFile?: string;
  /** `siaddr`: where a boot ROM fetches its file. Default: the gateway. */
  readonly nextServer?: string;
  /** Option 119 (RFC 3397). */
  readonly searchDomains?: readonly string[];
  /**
   * Option 121 (RFC 3442). Clients that take it ignore option 3, so the default route goes in by itself, over the first
   * router, unless the list has one.
   */
  readonly routes?: readonly { readonly to: string; readonly via: string }[];
  /**
   * Any other option, by number: `hex 01:02:ff`, `string text` or `ip 10.0.0.1, 10.0.0.2`. Those that have a name above or
   * that the server sets itself are refused.
   */
  readonly raw?: Readonly<Record<string, string>>;
}

/** Settings as a reply needs them. Undefined fields are not set here. */
export interface OptionSet {
  /** By code, encoded. An empty value means that the option is not sent. */
  readonly values: ReadonlyMap<number, Uint8Array>;
  readonly renewMs: number | undefined;
  readonly rebindMs: number | undefined;
  readonly nextServer: Address | undefined;
}

/** Ours to set, or without meaning in a reply. */
const ownCodes = new Set([0, 50, 51, 52, 53, 54, 55, 56, 57, 61, 80, 82, 118, 255]);

type Encode = (value: unknown, what: string) => Uint8Array;

const encoders: Readonly<Record<string, readonly [code: number, encode: Encode]>> = {
  subnetMask: [1, (value, what) => addresses([value], what)],
  routers: [3, (value, what) => addresses(list(value, what), what)],
  dns: [6, (value, what) => addresses(list(value, what), what)],
  hostname: [12, (value, what) => ascii(domainName(value, what))],
  domain: [15, (value, what) => ascii(domainName(value, what))],
  mtu: [26, (value, what) => uint16(integer(value, 68, 65_535, what))],
  ntp: [42, (value, what) => addresses(list(value, what), what)],
  tftpServer: [66, (value, what) => ascii(printable(value, what))],
  bootFile: [67, (value, what) => ascii(printable(value, what))],
  searchDomains: [119, (value, what) => domainList(list(value, what), what)],
  routes: [121, (value, what) => classlessRoutes(list(value, what), what)],
};
const namedCodes = new Map([
  ...Object.entries(encoders).map(([name, [code]]) => [code, name] as const),
  [58, "renewMs"] as const,
  [59, "rebindMs"] as const,
]);
const otherNames = ["renewMs", "rebindMs", "nextServer", "raw"];

/**
 * Checks settings of any origin, a parsed file for example, and encodes them.
 * @param where what messages begin with: `options of subnet 10.0.0.0/24`
 * @throws {InvalidError} naming the setting and what is wrong with it
 */
export function encodeOptions(settings: unknown, where: string): OptionSet {
  const fields = object(settings, where);
  const values = new Map<number, Uint8Array>();
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const encoder = Object.hasOwn(encoders, name) ? encoders[name] : undefined;
    if (encoder !== undefined) values.set(encoder[0], encoder[1](value, `${where}: ${name}`));
    else if (!otherNames.includes(name)) {
      throw new InvalidError(`${where}: there is no setting "${name}"`, {
        hint: `it takes ${[...Object.keys(encoders), ...otherNames].join(", ")}`,
      });
    }
  }
  const raw = fields.raw === undefined ? {} : object(fields.raw, `${where}: raw`);
  for (const [key, value] of Object.entries(raw)) {
    const what = `${where}: option ${key}`;
    values.set(rawCode(key, what), rawValue(value, what));
  }
  const ms = (name: string): number | undefined =>
    fields[name] === undefined ? undefined : integer(fields[name], 1000, 2 ** 41, `${where}: ${name}`);
  const [renewMs, rebindMs] = [ms("renewMs"), ms("rebindMs")];
  if (renewMs !== undefined && rebindMs !== undefined && renewMs > rebindMs) {
    throw new InvalidError(`${where}: renewMs ${renewMs} is more than rebindMs ${rebindMs}`);
  }
  const nextServer =
    fields.nextServer === undefined
      ? undefined
      : parseAddress(text(fields.nextServer, `${where}: nextServer`), `${where}: nextServer`);
  return { values, renewMs, rebindMs, nextServer };
}

/** Checks settings of any origin. @throws {InvalidError} see `encodeOptions` */
export function parseOptionSettings(value: unknown, where: string): OptionSettings {
  encodeOptions(value, where);
  return value as OptionSettings;
}

/** The raw form of a command line: `43=hex 01:02`. @throws {InvalidError} */
export function parseRawOption(assignment: string): { readonly code: string; readonly value: string } {
  const [, code, value] = /^\s*(\d+)\s*=\s*(.*)$/s.exec(assignment) ?? [];
  if (code === undefined || value === undefined) {
    throw new InvalidError(
      `option "${assignment}" is not like 43=hex 01:02, 60=string text or 150=ip 10.0.0.1`,
    );
  }
  const what = `option ${code}`;
  rawCode(code, what);
  rawValue(value, what);
  return { code, value };
}

function rawCode(key: string, what: string): number {
  const code = /^\d{1,3}$/.test(key) ? Number(key) : Number.NaN;
  if (!(code >= 0 && code <= 255)) throw new InvalidError(`${what}: the number of an option is 1 to 254`);
  if (ownCodes.has(code)) throw new InvalidError(`${what} is set by the server itself`);
  const name = namedCodes.get(code);
  if (name !== undefined) throw new InvalidError(`${what} is set by ${name}`);
  return code;
}

function rawValue(value: unknown, what: string): Uint8Array {
  const [, kind, rest = ""] = /^(hex|string|ip)\s+(.*)$/s.exec(text(value, what)) ?? [];
  if (kind === "hex") return hexBytes(rest, what);
  if (kind === "string") return new TextEncoder().encode(rest);
  if (kind === "ip")
    return addresses(
      rest.split(",").map((one) => one.trim()),
      what,
    );
  throw new InvalidError(`${what} is "${String(value)}"; it must be hex …, string … or ip …`);
}

/** `01:02:ff` or `0102ff`. @throws {InvalidError} */
export function hexBytes(digits: string, what: string): Uint8Array {
  const plain = digits.replaceAll(/[:\s]/g, "");
  if (plain === "" || !/^([0-9a-f]{2})+$/i.test(plain)) {
    throw new InvalidError(`${what}: "${digits}" is not hex like 01:02:ff`);
  }
  return Uint8Array.from(plain.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

export function addressBytes(...values: readonly Address[]): Uint8Array {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) view.setUint32(4 * index, value);
  return bytes;
}

function addresses(values: readonly unknown[], what: string): Uint8Array {
  return addressBytes(...values.map((value) => parseAddress(text(value, what), what)));
}

/** RFC 3442: prefix length, the significant bytes of the destination, the router. */
function classlessRoutes(routes: readonly unknown[], what: string): Uint8Array {
  const bytes: number[] = [];
  for (const route of routes) {
    const { to, via } = object(route, what);
    const { base, prefix } = parseCidr(text(to, `${what}: to`), what);
    const destination = addressBytes(base).subarray(0, Math.ceil(prefix / 8));
    bytes.push(prefix, ...destination, ...addressBytes(parseAddress(text(via, `${what}: via`), what)));
  }
  return Uint8Array.from(bytes);
}

/** RFC 3397, RFC 1035 §4.1.4: a name that ends like an earlier one points into that. */
function domainList(names: readonly unknown[], what: string): Uint8Array {
  const bytes: number[] = [];
  const seen = new Map<string, number>();
  for (const name of names) {
    let rest = domainName(name, what).toLowerCase();
    while (rest !== "") {
      const at = seen.get(rest);
      if (at !== undefined) {
        bytes.push(0xc0 | (at >> 8), at & 255);
        break;
      }
      if (bytes.length < 0x4000) seen.set(rest, bytes.length);
      const [label = ""] = rest.split(".", 1);
      bytes.push(label.length, ...ascii(label));
      rest = rest.slice(label.length + 1);
    }
    if (rest === "") bytes.push(0);
  }
  return Uint8Array.from(bytes);
}

/** RFC 1123 §2.1; underscores are in use. */
function domainName(value: unknown, what: string): string {
  const name = text(value, what).replace(/\.$/, "");
  const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i;
  if (name.length > 253 || !name.split(".").every((one) => label.test(one))) {
    throw new InvalidError(`${what} "${name}" is not a domain name`);
  }
  return name;
}

function printable(value: unknown, what: string): string {
  const string = text(value, what);
  if (!/^[\x20-\x7e]{1,255}$/.test(string)) {
    throw new InvalidError(`${what} must be 1 to 255 printable ASCII characters`);
  }
  return string;
}

function integer(value: unknown, least: number, most: number, what: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most)
    return value;
  throw new InvalidError(`${what} is ${String(value)}; it must be a whole number from ${least} to ${most}`);
}

function text(value: unknown, what: string): string {
  if (typeof value === "string" && value !== "") return value;
  throw new InvalidError(`${what} is ${JSON.stringify(value)}; it must be a text`);
}

function list(value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new InvalidError(`${what} is ${JSON.stringify(value)}; it must be a list`);
}

function object(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  throw new InvalidError(`${what} is ${JSON.stringify(value)}; it must be a mapping`);
}

function ascii(string: string): Uint8Array {
  return new TextEncoder().encode(string);
}

function uint16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 255);
}
