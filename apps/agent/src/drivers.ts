import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import {
  type CallOptions,
  type Cloud,
  type CloudDriver,
  type ConnectionUrl,
  describeError,
  InvalidError,
  type OpenCloudOptions,
  parseConnectionUrl,
  type Store,
  type StoreDriver,
} from "@cocoon-net/core";

type Load<T> = () => Promise<T>;

/** Where the drivers of third parties are. */
export interface DriverPlaces {
  /** By scheme or platform: the name of a package, or a path. Wins over what is built in. */
  readonly named: ReadonlyMap<string, string>;
  /** Packages and paths are looked up from here. */
  readonly directory: string;
  /** The file that says so, for messages. */
  readonly file: string | undefined;
}

export interface OpenOptions extends CallOptions {
  /** Default: what is installed where the working directory is. */
  readonly drivers?: DriverPlaces | undefined;
}

// Loaded on use: a node with etcd never pays for Redis, and the daemon never for a cloud SDK.
const etcd: Load<StoreDriver> = async () => (await import("@cocoon-net/store-etcd")).default;
const redis: Load<StoreDriver> = async () => (await import("@cocoon-net/store-redis")).default;
const memory: Load<StoreDriver> = async () => (await import("@cocoon-net/store-memory")).default;
const volcengine: Load<CloudDriver> = async () => (await import("@cocoon-net/cloud-volcengine")).default;
const gke: Load<CloudDriver> = async () => (await import("@cocoon-net/cloud-gke")).default;

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

const clouds: ReadonlyMap<string, Load<CloudDriver>> = new Map(Object.entries({ volcengine, gke }));

type WatchDeparture = NonNullable<CloudDriver["watchDeparture"]>;
/** What a daemon needs of a cloud, without the rest of its driver. Of Volcengine nothing is known. */
const departures: ReadonlyMap<string, Load<WatchDeparture | undefined>> = new Map(
  Object.entries({
    volcengine: async () => undefined,
    gke: async () => (await import("@cocoon-net/cloud-gke/host")).watchDeparture,
  }),
);

/** Checks what can be checked of a store's URL without connecting. @throws {InvalidError} */
export function checkStoreUrl(text: string, drivers?: DriverPlaces): void {
  const { scheme } = parse(text);
  if (drivers?.named.has(scheme) || !stores.has(scheme)) {
    resolveDriver("store", scheme, [...stores.keys()], drivers);
  }
}

/** Checks that a platform's driver is to be found, without loading it. @throws {InvalidError} */
export function checkPlatform(platform: string, drivers?: DriverPlaces): void {
  if (drivers?.named.has(platform) || !clouds.has(platform)) {
    resolveDriver("cloud", platform, [...clouds.keys()], drivers);
  }
}

/** Opens a store by its URL; a command passes its context. @throws {InvalidError} for a URL or scheme that cannot work. */
export async function openStore(text: string, options: OpenOptions = {}): Promise<Store> {
  const { drivers, signal, timeoutMs } = options;
  const url = parse(text);
  const driver = await driverFor("store", url.scheme, stores, drivers);
  return driver.open(url, { signal, timeoutMs });
}

/** Opens the cloud of a platform; cheap, no request is made. */
export async function openCloud(
  platform: string,
  drivers: DriverPlaces | undefined,
  options?: OpenCloudOptions,
): Promise<Cloud> {
  const driver = await driverFor("cloud", platform, clouds, drivers);
  return driver.open(platform, options);
}

/** What tells that this machine is about to end; undefined where its cloud announces nothing. @throws {InvalidError} */
export async function departureWatch(
  platform: string,
  drivers?: DriverPlaces,
): Promise<WatchDeparture | undefined> {
  const light = drivers?.named.has(platform) ? undefined : departures.get(platform);
  if (light) return light();
  return (await driverFor("cloud", platform, clouds, drivers)).watchDeparture;
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

async function driverFor<T>(
  kind: "store" | "cloud",
  name: string,
  builtIn: ReadonlyMap<string, Load<T>>,
  drivers: DriverPlaces | undefined,
): Promise<T> {
  const load = drivers?.named.has(name) ? undefined : builtIn.get(name);
  if (load) return load();
  const path = resolveDriver(kind, name, [...builtIn.keys()], drivers);
  let module: { readonly default?: T };
  try {
    module = await import(pathToFileURL(path).href);
  } catch (cause) {
    throw new InvalidError(`the ${kind} driver ${path} cannot be loaded: ${describeError(cause)}`, { cause });
  }
  const driver = module.default;
  if (driver !== undefined && isDriver(driver)) return driver;
  throw new InvalidError(`${path} has no driver as its default export, so it is no ${kind} driver`);
}

function isDriver(value: unknown): boolean {
  return typeof value === "object" && value !== null && "open" in value && typeof value.open === "function";
}

/** An entry of the config's `drivers`, else a package named by convention. */
function resolveDriver(
  kind: "store" | "cloud",
  name: string,
  builtIn: readonly string[],
  drivers: DriverPlaces | undefined,
): string {
  const directory = drivers?.directory ?? process.cwd();
  const from = createRequire(join(directory, "/"));
  const what = kind === "store" ? `store scheme "${name}:"` : `platform "${name}"`;
  const named = drivers?.named.get(name);
  if (named !== undefined) {
    try {
      return from.resolve(named);
    } catch (cause) {
      throw new InvalidError(`the driver "${named}" of ${what} is not to be found from ${directory}`, {
        cause,
        hint: `${drivers?.file} names it; give an installed package, or a path that starts with ./ or /`,
      });
    }
  }
  const candidates = [`@cocoon-net/${kind}-${name}`, `cocoon-net-${kind}-${name}`];
  for (const candidate of candidates) {
    try {
      return from.resolve(candidate);
    } catch {
      // Not that one.
    }
  }
  throw new InvalidError(
    `unknown ${what}: it is not built in (${builtIn.join(", ")}), and ${directory} has no package ${candidates.join(" or ")}`,
    { hint: "install one of them there, or name the driver under `drivers` in the file given by --config" },
  );
}
