import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import {
  type CallOptions,
  type Cloud,
  type CloudDriver,
  type ConnectionUrl,
  InvalidError,
  parseConnectionUrl,
  type Store,
  type StoreDriver,
} from "@cocoon-net/core";

type Load<T> = () => Promise<T>;

// Loaded on use: a node with etcd never pays for Redis, and the daemon never for a cloud SDK.
const etcd: Load<StoreDriver> = async () => (await import("@cocoon-net/store-etcd")).default;
const redis: Load<StoreDriver> = async () => (await import("@cocoon-net/store-redis")).default;
const memory: Load<StoreDriver> = async () => (await import("@cocoon-net/store-memory")).default;
const volcengine: Load<CloudDriver> = async () => (await import("@cocoon-net/cloud-volcengine")).default;

const stores: ReadonlyMap<string, Load<StoreDriver>> = new Map(
  Object.entries({
    etcd,
    etcds: etcd,
    redis,
    rediss: redis,
    "redis+sentinel": redis,
    "redis+cluster": redis,
    memory,
  }),
);

const clouds: ReadonlyMap<string, Load<CloudDriver>> = new Map(Object.entries({ volcengine }));

/** Checks what can be checked of a store's URL without connecting. @throws {InvalidError} */
export function checkStoreUrl(text: string): void {
  const { scheme } = parse(text);
  if (!stores.has(scheme)) resolveThirdParty("store", scheme, [...stores.keys()]);
}

/** Opens a store by its URL. @throws {InvalidError} for a URL or scheme that cannot work. */
export async function openStore(text: string, options?: CallOptions): Promise<Store> {
  const url = parse(text);
  const builtIn = stores.get(url.scheme);
  const driver = builtIn
    ? await builtIn()
    : await thirdParty<StoreDriver>("store", url.scheme, [...stores.keys()]);
  return driver.open(url, options);
}

/** Opens the cloud of a platform; cheap, no request is made. */
export async function openCloud(platform: string): Promise<Cloud> {
  const builtIn = clouds.get(platform);
  const driver = builtIn
    ? await builtIn()
    : await thirdParty<CloudDriver>("cloud", platform, [...clouds.keys()]);
  return driver.open(platform);
}

/** The platform whose metadata service answers here. @throws {InvalidError} when not exactly one does. */
export async function detectPlatform(signal?: AbortSignal): Promise<string> {
  const answers = await Promise.all(
    [...clouds].map(async ([platform, load]) => ((await (await load()).detect({ signal })) ? platform : "")),
  );
  const found = answers.filter((platform) => platform !== "");
  if (found.length === 1 && found[0] !== undefined) return found[0];
  throw new InvalidError(
    found.length === 0
      ? "no instance metadata service answers here"
      : `the metadata of ${found.join(" and ")} answer here`,
    { hint: "say which cloud this is with --platform" },
  );
}

function parse(text: string): ConnectionUrl {
  return parseConnectionUrl(text, { readSecretFile: (path) => readFileSync(path, "utf8") });
}

/** A driver from a package named by convention, found from the working directory. */
async function thirdParty<T>(kind: "store" | "cloud", name: string, builtIn: readonly string[]): Promise<T> {
  const path = resolveThirdParty(kind, name, builtIn);
  const module = (await import(pathToFileURL(path).href)) as { default?: T };
  if (module.default !== undefined) return module.default;
  throw new InvalidError(`${path} has no default export, so it is no ${kind} driver`);
}

function resolveThirdParty(kind: "store" | "cloud", name: string, builtIn: readonly string[]): string {
  const from = createRequire(`${process.cwd()}/`);
  for (const candidate of [`@cocoon-net/${kind}-${name}`, `cocoon-net-${kind}-${name}`]) {
    try {
      return from.resolve(candidate);
    } catch {
      // Not that one.
    }
  }
  const what = kind === "store" ? `store scheme "${name}:"` : `platform "${name}"`;
  throw new InvalidError(`unknown ${what}; built in: ${builtIn.join(", ")}`, {
    hint: `for a third party's, install the package cocoon-net-${kind}-${name} here`,
  });
}
