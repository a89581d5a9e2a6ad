import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { AuthError, CocoonError, InvalidError } from "@cocoon-net/core";
import type { Metadata } from "./metadata.ts";
import type { Environment } from "./settings.ts";

export interface Credentials {
  readonly accessKeyID: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
  readonly region: string;
  /** Whose budget requests with them count against. */
  readonly account: string;
}

/** What an instance role gives; times as the metadata service says them. */
export interface RoleCredentials {
  readonly accessKeyID: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  /** How long they are good for from now, in milliseconds. */
  readonly lifeMs: number;
}

/** Where role credentials come from. */
export type RoleSource = Pick<Metadata, "region" | "roleName" | "roleCredentials">;

/** Renewed this long before they expire, or after half of a short life. */
const renewBeforeMs = 300_000;

/**
 * The access key: from `VOLCENGINE_ACCESS_KEY_ID` and `VOLCENGINE_SECRET_ACCESS_KEY` (and `VOLCENGINE_SESSION_TOKEN`),
 * else from `~/.volcengine/config.json`, else of the instance's role. The region: from `VOLCENGINE_REGION`, else from
 * that file, else, with a role, the instance's.
 */
export class CredentialSource {
  readonly #env: Environment;
  readonly #metadata: RoleSource;
  readonly #now: () => number;
  #loading: Promise<Held> | undefined;
  #held: Held | undefined;

  /** @param now milliseconds; never goes back */
  constructor(env: Environment, metadata: RoleSource, now: () => number = () => performance.now()) {
    this.#env = env;
    this.#metadata = metadata;
    this.#now = now;
  }

  /**
   * @throws {AuthError} when there is no key, or half of one
   * @throws {InvalidError} when the file is malformed or no region is named
   */
  async current(): Promise<Credentials> {
    const held = this.#held;
    if (held !== undefined && this.#now() < held.renewAt) return held.credentials;
    try {
      return (await this.#load()).credentials;
    } catch (error) {
      // Those of a role are good for a while after the first try to renew them.
      if (held !== undefined && this.#held === held && this.#now() < held.endsAt) return held.credentials;
      throw error;
    }
  }

  /** After a refusal of `used`: true when there may be others now. */
  renew(used: Credentials): boolean {
    const held = this.#held;
    if (held === undefined || held.credentials !== used) return true;
    if (held.endsAt === Number.POSITIVE_INFINITY) return false;
    this.#held = undefined;
    return true;
  }

  #load(): Promise<Held> {
    // A failure is not kept: the file may be there the next time.
    this.#loading ??= this.#find()
      .then((held) => {
        this.#held = held;
        return held;
      })
      .finally(() => {
        this.#loading = undefined;
      });
    return this.#loading;
  }

  async #find(): Promise<Held> {
    const env = this.#env;
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
    const region = env.VOLCENGINE_REGION || file.region;
    if (!accessKeyID || !secretAccessKey) return await this.#ofRole(path, region);
    if (!region) {
      throw new InvalidError(`no Volcengine region in the environment or in ${path}`, {
        hint: "set VOLCENGINE_REGION, e.g. cn-beijing",
      });
    }
    // A session token belongs to the key it was issued with, so one from the environment never joins the file's.
    const sessionToken = id === undefined ? undefined : env.VOLCENGINE_SESSION_TOKEN || undefined;
    const credentials = { accessKeyID, secretAccessKey, sessionToken, region, account: accessKeyID };
    return { credentials, renewAt: Number.POSITIVE_INFINITY, endsAt: Number.POSITIVE_INFINITY };
  }

  async #ofRole(path: string, region: string | undefined): Promise<Held> {
    const none = (why: string, cause?: unknown): AuthError =>
      new AuthError(`no Volcengine access key in the environment or in ${path}, and no role: ${why}`, {
        hint: "set VOLCENGINE_ACCESS_KEY_ID and VOLCENGINE_SECRET_ACCESS_KEY, or give the instance a role",
        ...(cause === undefined ? {} : { cause }),
      });
    if (/^(true|1)$/i.test(this.#env.VOLCENGINE_ECS_METADATA_DISABLED ?? "")) {
      throw none("VOLCENGINE_ECS_METADATA_DISABLED is set");
    }
    try {
      const role = this.#env.VOLCENGINE_ECS_METADATA || (await this.#metadata.roleName());
      const { lifeMs, ...key } = await this.#metadata.roleCredentials(role);
      const now = this.#now();
      // The key changes with each renewal; the account does not.
      const account = `role ${role}`;
      return {
        credentials: { ...key, region: region ?? (await this.#metadata.region()), account },
        renewAt: now + Math.max(lifeMs - renewBeforeMs, lifeMs / 2),
        endsAt: now + lifeMs,
      };
    } catch (error) {
      if (error instanceof CocoonError) throw none(error.message, error);
      throw error;
    }
  }
}

interface Held {
  readonly credentials: Credentials;
  /** By the source's clock; infinite for a key that does not change. */
  readonly renewAt: number;
  readonly endsAt: number;
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
    throw new InvalidError(`${path} is not JSON`, { hint: "write it anew, or take it away" });
  }
  const values = new Map(typeof json === "object" && json !== null ? Object.entries(json) : []);
  const config: { -readonly [Field in keyof ConfigFile]: string } = {};
  for (const field of fields) {
    const value: unknown = values.get(field);
    if (typeof value === "string") config[field] = value;
  }
  return config;
}
