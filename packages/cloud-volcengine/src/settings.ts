import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { AuthError, InvalidError } from "@cocoon-net/core";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Credentials {
  readonly accessKeyID: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
  readonly region: string;
}

/** Serves every service of every region by the signed scope. */
const defaultEndpoint = "https://open.volcengineapi.com";
/** https://www.volcengine.com/docs/6396/113780 */
const defaultMetadataEndpoint = "http://100.96.0.96";

/** Origin of the API; env `COCOON_NET_VOLCENGINE_ENDPOINT`. @throws {InvalidError} */
export function apiEndpoint(env: Environment): string {
  return originOf(env, "COCOON_NET_VOLCENGINE_ENDPOINT", defaultEndpoint);
}

/** Origin of the instance metadata service; env `COCOON_NET_METADATA_ENDPOINT`. @throws {InvalidError} */
export function metadataEndpoint(env: Environment): string {
  return originOf(env, "COCOON_NET_METADATA_ENDPOINT", defaultMetadataEndpoint);
}

function originOf(env: Environment, name: string, fallback: string): string {
  const text = env[name] || fallback;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plain = url?.pathname === "/" && url.search === "" && url.username === "";
  if (url === undefined || !/^https?:$/.test(url.protocol) || !plain) {
    throw new InvalidError(`${name} "${text}" is not an endpoint`, { hint: "give http(s)://HOST[:PORT]" });
  }
  return url.origin;
}

/**
 * Access key from `VOLCENGINE_ACCESS_KEY_ID` and `VOLCENGINE_SECRET_ACCESS_KEY` (and `VOLCENGINE_SESSION_TOKEN`),
 * else from `~/.volcengine/config.json`; region from `VOLCENGINE_REGION`, else from that file.
 *
 * @throws {AuthError} when there is no key, or half of one
 * @throws {InvalidError} when the file is malformed or no region is named
 */
export async function loadCredentials(env: Environment): Promise<Credentials> {
  const id = env.VOLCENGINE_ACCESS_KEY_ID || undefined;
  const secret = env.VOLCENGINE_SECRET_ACCESS_KEY || undefined;
  if ((id === undefined) !== (secret === undefined)) {
    const missing = id === undefined ? "VOLCENGINE_ACCESS_KEY_ID" : "VOLCENGINE_SECRET_ACCESS_KEY";
    throw new AuthError(`half of the Volcengine access key is missing: ${missing} is not set`, {
      hint: `set ${missing} too`,
    });
  }
  const path = join(env.HOME || homedir(), ".volcengine", "config.json");
  const complete = id !== undefined && env.VOLCENGINE_REGION;
  const file = complete ? {} : await readConfig(path);

  const accessKeyID = id ?? file.access_key_id;
  const secretAccessKey = secret ?? file.secret_access_key;
  if (!accessKeyID || !secretAccessKey) {
    throw new AuthError(`no Volcengine access key in the environment or in ${path}`, {
      hint: "set VOLCENGINE_ACCESS_KEY_ID and VOLCENGINE_SECRET_ACCESS_KEY",
    });
  }
  const region = env.VOLCENGINE_REGION || file.region;
  if (!region) {
    throw new InvalidError(`no Volcengine region in the environment or in ${path}`, {
      hint: "set VOLCENGINE_REGION, e.g. cn-beijing",
    });
  }
  // A session token belongs to the key it was issued with, so one from the environment never joins the file's.
  const sessionToken = id === undefined ? undefined : env.VOLCENGINE_SESSION_TOKEN || undefined;
  return { accessKeyID, secretAccessKey, sessionToken, region };
}

const fields = ["access_key_id", "secret_access_key", "region"] as const;
type ConfigFile = { readonly [Field in (typeof fields)[number]]?: string };

async function readConfig(path: string): Promise<ConfigFile> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return {};
    throw new AuthError(`cannot read ${path}`, { cause, hint: "check its owner and mode" });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's message would quote the file, and with it the secret.
    throw new InvalidError(`${path} is not JSON`);
  }
  const values = new Map(typeof json === "object" && json !== null ? Object.entries(json) : []);
  const config: { -readonly [Field in keyof ConfigFile]: string } = {};
  for (const field of fields) {
    const value: unknown = values.get(field);
    if (typeof value === "string") config[field] = value;
  }
  return config;
}
