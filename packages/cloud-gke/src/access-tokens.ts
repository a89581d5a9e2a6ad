import { readFile } from "node:fs/promises";
import { AuthError, CocoonError, UnavailableError } from "@cocoon-net/core";
import type { Metadata } from "./metadata.ts";
import { type Environment, keyFiles } from "./settings.ts";
import { isRecord, type Json } from "./wire.ts";

const scope = "https://www.googleapis.com/auth/cloud-platform";

const hint = "check GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`";

/** Renewed this long before a token ends. */
const marginMs = 60_000;

interface KeyFileClient {
  getRequestHeaders(url: string): Promise<Headers>;
}

/**
 * The `Authorization` header of API requests: from the key file that `GOOGLE_APPLICATION_CREDENTIALS` names or that
 * gcloud has written, else from the metadata server, as the vendor's default credentials do.
 */
export class AccessTokens {
  readonly #env: Environment;
  readonly #metadata: Metadata;
  #client: Promise<KeyFileClient | undefined> | undefined;
  #issued: { readonly header: string; readonly until: number } | undefined;

  constructor(env: Environment, metadata: Metadata) {
    this.#env = env;
    this.#metadata = metadata;
  }

  /** @param url what the token is for @throws {AuthError} when there are no credentials @throws {UnavailableError} */
  async header(url: string, signal?: AbortSignal): Promise<string> {
    // A failure is not kept: the file may be there the next time.
    this.#client ??= openKeyFile(this.#env).catch((error: unknown) => {
      this.#client = undefined;
      throw error;
    });
    const client = await this.#client;
    if (client !== undefined) return await headerFrom(client, url);
    if (this.#issued === undefined || this.#issued.until <= performance.now()) {
      this.#issued = await this.#fromMetadata(signal);
    }
    return this.#issued.header;
  }

  /** The API has refused the token. */
  forget(): void {
    this.#issued = undefined;
    this.#client = undefined;
  }

  async #fromMetadata(
    signal: AbortSignal | undefined,
  ): Promise<{ readonly header: string; readonly until: number }> {
    try {
      const { token, expiresInMs } = await this.#metadata.accessToken(signal);
      return { header: `Bearer ${token}`, until: performance.now() + Math.max(0, expiresInMs - marginMs) };
    } catch (cause) {
      if (!(cause instanceof CocoonError)) throw cause;
      const message = `no Google credentials: no key file, and ${cause.message}`;
      const advice = "set GOOGLE_APPLICATION_CREDENTIALS, or run on an instance with a service account";
      // A silent server may speak again, one without a service account will not.
      throw cause instanceof UnavailableError
        ? new UnavailableError(message, { cause, hint: advice, outcome: "none" })
        : new AuthError(message, { cause, hint: advice });
    }
  }
}

/** Undefined when there is no file. The vendor's library is loaded only where there is one. */
async function openKeyFile(env: Environment): Promise<KeyFileClient | undefined> {
  const { named, wellKnown } = keyFiles(env);
  const path = named ?? wellKnown;
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    if (named === undefined && (code === "ENOENT" || code === "ENOTDIR")) return undefined;
    const why = code === "ENOENT" ? "it does not exist" : String(code);
    throw new AuthError(`cannot read the Google key file ${path}: ${why}`, { cause, hint });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's message would quote the file, and with it the key.
  }
  if (!isRecord(json)) throw new AuthError(`the Google key file ${path} is not JSON`, { hint });
  return await clientFor(json, path);
}

async function clientFor(json: Json, path: string): Promise<KeyFileClient> {
  const text = (name: string): string => {
    const value = json[name];
    if (typeof value === "string" && value !== "") return value;
    throw new AuthError(`the Google key file ${path} has no ${name}`, { hint });
  };
  const { ExternalAccountClient, JWT, UserRefreshClient } = await import("google-auth-library");
  switch (json.type) {
    case "service_account": {
      const key = { email: text("client_email"), key: text("private_key"), keyId: text("private_key_id") };
      const client = new JWT({ ...key, scopes: [scope] });
      // It signs its own tokens: no request to a token server.
      client.useJWTAccessWithScope = true;
      return client;
    }
    case "authorized_user":
      return new UserRefreshClient(text("client_id"), text("client_secret"), text("refresh_token"));
    case "external_account": {
      const options = {
        ...json,
        type: "external_account",
        audience: text("audience"),
        subject_token_type: text("subject_token_type"),
        token_url: text("token_url"),
        scopes: [scope],
      };
      const client = ExternalAccountClient.fromJSON(options);
      if (client !== null) return client;
    }
  }
  throw new AuthError(
    `the Google key file ${path} is of the type ${String(json.type)}, which is not supported`,
    {
      hint: "use a service account's key, `gcloud auth application-default login` or workload identity federation",
    },
  );
}

async function headerFrom(client: KeyFileClient, url: string): Promise<string> {
  let header: string | null;
  try {
    header = (await client.getRequestHeaders(url)).get("authorization");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    if (/^(ECONN|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|ENETUNREACH|EHOSTUNREACH)/.test(code)) {
      const message = `the token server of the Google key file cannot be reached: ${code}`;
      throw new UnavailableError(message, { cause, outcome: "none" });
    }
    throw new AuthError("the Google key file gives no access token", { cause, hint });
  }
  if (header === null) throw new AuthError("the Google key file gives no access token", { hint });
  return header;
}
