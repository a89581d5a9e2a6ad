import { stat } from "node:fs/promises";
import { AuthError, CocoonError, UnavailableError } from "@cocoon-net/core";
import type { Metadata } from "./metadata.ts";
import { type Environment, keyFiles } from "./settings.ts";

const scope = "https://www.googleapis.com/auth/cloud-platform";

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
      const hint = "set GOOGLE_APPLICATION_CREDENTIALS, or run on an instance with a service account";
      // A silent server may speak again, one without a service account will not.
      throw cause instanceof UnavailableError
        ? new UnavailableError(message, { cause, hint, outcome: "none" })
        : new AuthError(message, { cause, hint });
    }
  }
}

async function headerFrom(client: KeyFileClient, url: string): Promise<string> {
  let header: string | null;
  try {
    header = (await client.getRequestHeaders(url)).get("authorization");
  } catch (cause) {
    throw keyFileError("the key file gives no access token", cause);
  }
  if (header === null) throw new AuthError("the key file gives no access token");
  return header;
}

/** Undefined when there is no file. The vendor's library is loaded only where one is. */
async function openKeyFile(env: Environment): Promise<KeyFileClient | undefined> {
  const { named, wellKnown } = keyFiles(env);
  if (named === undefined && !(await exists(wellKnown))) return undefined;
  const keyFilename = named ?? wellKnown;
  const { GoogleAuth } = await import("google-auth-library");
  try {
    const auth = new GoogleAuth({ keyFilename, scopes: [scope] });
    // A service account's key signs its own tokens: no request to a token server.
    auth.useJWTAccessWithScope = true;
    return await auth.getClient();
  } catch (cause) {
    throw keyFileError(`cannot use the Google key file ${keyFilename}`, cause);
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

function keyFileError(what: string, cause: unknown): CocoonError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  if (/^(ECONN|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|ENETUNREACH|EHOSTUNREACH)/.test(code)) {
    return new UnavailableError(`${what}: the token server cannot be reached (${code})`, {
      cause,
      outcome: "none",
    });
  }
  // A parser's message would quote the file, and with it the key.
  const why = code === "ENOENT" ? "it does not exist" : code === "EACCES" ? "it cannot be read" : undefined;
  return new AuthError(why === undefined ? what : `${what}: ${why}`, {
    hint: "check GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
  });
}
