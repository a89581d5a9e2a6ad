import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createSecureContext, rootCertificates } from "node:tls";
import { InvalidError } from "@cocoon-net/core";

/** PEM: its text, or the path of a file that is read again when it changes. */
export type Pem = Buffer | string;

export interface EtcdTlsOptions {
  /** Who may have signed the server's certificate; default the roots that Node.js ships. */
  readonly ca?: Pem;
  /** The client's certificate chain; needs `key`. */
  readonly cert?: Pem;
  readonly key?: Pem;
}

/** In the client's words. */
export interface Credentials {
  readonly rootCertificate: Buffer;
  readonly privateKey?: Buffer;
  readonly certChain?: Buffer;
}

const names = ["ca", "cert", "key"] as const;
type Texts = { readonly [N in (typeof names)[number]]?: Buffer };

/** What a connection proves itself and its server by, read from files where there are some. */
export class Certificates {
  readonly #options: EtcdTlsOptions;
  readonly #label: string;
  #texts: Texts;

  /** @throws {InvalidError} for a file that cannot be read, or is not PEM. */
  constructor(options: EtcdTlsOptions, label: string) {
    this.#options = options;
    this.#label = label;
    this.#texts = {};
    for (const name of names) {
      const pem = options[name];
      if (pem !== undefined) this.#texts = { ...this.#texts, [name]: this.#read(name, pem) };
    }
  }

  /** Undefined when the client's own defaults mean the same. */
  get credentials(): Credentials | undefined {
    const { ca, cert, key } = this.#texts;
    if (ca === undefined && cert === undefined) return undefined;
    return {
      rootCertificate: ca ?? Buffer.from(rootCertificates.join("\n")),
      ...(key === undefined ? {} : { privateKey: key }),
      ...(cert === undefined ? {} : { certChain: cert }),
    };
  }

  get hasFiles(): boolean {
    return names.some((name) => typeof this.#options[name] === "string");
  }

  /** Reads the files again. True when they say something else now; false also while they are being replaced. */
  async reread(): Promise<boolean> {
    const texts: { -readonly [N in keyof Texts]: Texts[N] } = { ...this.#texts };
    let changed = false;
    for (const name of names) {
      const path = this.#options[name];
      if (typeof path !== "string") continue;
      const text = await readFile(path).catch(() => undefined);
      if (text === undefined || !isPem(text)) return false;
      changed ||= texts[name]?.equals(text) !== true;
      texts[name] = text;
    }
    if (!changed || !isUsable(texts)) return false;
    this.#texts = texts;
    return true;
  }

  #read(name: string, pem: Pem): Buffer {
    if (typeof pem !== "string") return pem;
    const described = `TLS file ${pem} (${name}=) of store URL ${this.#label}`;
    let text: Buffer;
    try {
      text = readFileSync(pem);
    } catch (cause) {
      throw new InvalidError(`${described} cannot be read`, { cause });
    }
    if (!isPem(text)) throw new InvalidError(`${described} is not in PEM form`);
    return text;
  }
}

/** The TLS library takes a file without one for an empty list of roots, and then trusts nobody. */
function isPem(text: Buffer): boolean {
  return text.includes("-----BEGIN ");
}

/** Not when the certificate is here already, and its key still to come. */
function isUsable(texts: Texts): boolean {
  try {
    createSecureContext(texts);
    return true;
  } catch {
    return false;
  }
}
