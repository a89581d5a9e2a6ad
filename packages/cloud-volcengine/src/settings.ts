import { InvalidError } from "@cocoon-net/core";

export type Environment = Readonly<Record<string, string | undefined>>;

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
