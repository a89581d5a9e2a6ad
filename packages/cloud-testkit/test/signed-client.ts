import { createHash, createHmac } from "node:crypto";

export interface ApiResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly body: {
    readonly ResponseMetadata: { readonly Error?: { readonly Code: string; readonly CodeN?: number } };
    // The suite looks into results by name; what is not there shows as undefined.
    readonly Result?: Readonly<Record<string, unknown>>;
  };
}

export interface SigningOptions {
  readonly service?: string;
  readonly secret?: string;
  readonly accessKeyID?: string;
  readonly region?: string;
  readonly date?: Date;
  /** Also signs the host header, as the vendor's Go client does. */
  readonly signHost?: boolean;
  /** Of temporary credentials. */
  readonly sessionToken?: string;
  readonly signal?: AbortSignal;
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

/** A client of its own for the API, written from the signature's description, to test the simulator with. */
export class SignedClient {
  readonly #endpoint: string;

  constructor(endpoint: string | undefined) {
    this.#endpoint = endpoint ?? "";
  }

  async call(
    action: string,
    parameters: Readonly<Record<string, string | number>> = {},
    options: SigningOptions = {},
  ): Promise<ApiResponse> {
    const all = { Action: action, Version: "2020-04-01", ...parameters };
    const encode = (text: string | number) =>
      encodeURIComponent(text).replaceAll(
        /[!'()*]/g,
        (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
      );
    const pairs = Object.entries(all).map(([key, value]) => `${encode(key)}=${encode(value)}`);
    // Sent in another order than signed: the server must sort.
    return await this.#send(pairs.toReversed().join("&"), pairs.sort().join("&"), options);
  }

  async raw(query: string, options: SigningOptions = {}): Promise<ApiResponse> {
    return await this.#send(query, query, options);
  }

  async #send(query: string, canonicalQuery: string, options: SigningOptions): Promise<ApiResponse> {
    const stamp = (options.date ?? new Date()).toISOString().replaceAll(/[-:]|\.\d{3}/g, "");
    const scope = [stamp.slice(0, 8), options.region ?? "cn-beijing", options.service ?? "vpc", "request"];
    const { sessionToken } = options;
    const signed: [name: string, value: string][] = [["x-date", stamp]];
    if (options.signHost) signed.unshift(["host", new URL(this.#endpoint).host]);
    if (sessionToken !== undefined) signed.push(["x-security-token", sessionToken]);
    const names = signed.map(([name]) => name);
    const lines = signed.map(([name, value]) => `${name}:${value}\n`).join("");
    const canonical = ["GET", "/", canonicalQuery, lines, names.join(";"), sha256("")].join("\n");
    const toSign = ["HMAC-SHA256", stamp, scope.join("/"), sha256(canonical)].join("\n");
    let key: Buffer | string = options.secret ?? "SKTEST";
    for (const part of scope) key = createHmac("sha256", key).update(part).digest();
    const signature = createHmac("sha256", key).update(toSign).digest("hex");
    const credential = `${options.accessKeyID ?? "AKTEST"}/${scope.join("/")}`;
    const response = await fetch(`${this.#endpoint}/?${query}`, {
      signal: options.signal ?? null,
      headers: {
        "x-date": stamp,
        ...(sessionToken === undefined ? {} : { "x-security-token": sessionToken }),
        authorization: `HMAC-SHA256 Credential=${credential}, SignedHeaders=${names.join(";")}, Signature=${signature}`,
      },
    });
    return {
      status: response.status,
      headers: response.headers,
      body: (await response.json()) as ApiResponse["body"],
    };
  }
}
