import { homedir } from "node:os";
import { join } from "node:path";
import { InvalidError } from "@cocoon-net/core";

export type Environment = Readonly<Record<string, string | undefined>>;

const defaultEndpoint = "https://compute.googleapis.com";
/** `metadata.google.internal`, without a name server's help: https://cloud.google.com/compute/docs/metadata/overview */
const defaultMetadataEndpoint = "http://169.254.169.254";

/** Origin of the Compute Engine API; env `COCOON_NET_GCE_ENDPOINT`. @throws {InvalidError} */
export function apiEndpoint(env: Environment): URL {
  return originOf(env, "COCOON_NET_GCE_ENDPOINT", defaultEndpoint);
}

/** Origin of the metadata server; env `COCOON_NET_METADATA_ENDPOINT`. @throws {InvalidError} */
export function metadataEndpoint(env: Environment): string {
  return originOf(env, "COCOON_NET_METADATA_ENDPOINT", defaultMetadataEndpoint).origin;
}

/** Since 2026: https://cloud.google.com/vpc/docs/quota#per_instance */
const defaultAliasRanges = 150;

/** Alias ranges that an interface may have; env `COCOON_NET_GCE_ALIAS_RANGES_PER_NIC`. @throws {InvalidError} */
export function aliasRangesPerNIC(env: Environment): number {
  const text = env.COCOON_NET_GCE_ALIAS_RANGES_PER_NIC || String(defaultAliasRanges);
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new InvalidError(`COCOON_NET_GCE_ALIAS_RANGES_PER_NIC "${text}" is not a whole number above 0`);
}

/** Where a key file is looked for: the file that the environment names, else the one that gcloud writes. */
export function keyFiles(env: Environment): {
  readonly named: string | undefined;
  readonly wellKnown: string;
} {
  const directory = env.CLOUDSDK_CONFIG || join(env.HOME || homedir(), ".config", "gcloud");
  return {
    named: env.GOOGLE_APPLICATION_CREDENTIALS || undefined,
    wellKnown: join(directory, "application_default_credentials.json"),
  };
}

function originOf(env: Environment, name: string, fallback: string): URL {
  const text = env[name] || fallback;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plain = url?.pathname === "/" && url.search === "" && url.username === "";
  if (url === undefined || !/^https?:$/.test(url.protocol) || !plain) {
    throw new InvalidError(`${name} "${text}" is not an endpoint`, { hint: "give http(s)://HOST[:PORT]" });
  }
  return url;
}
