import {
  AuthError,
  decode,
  describeError,
  keys,
  NotFoundError,
  nodeSchema,
  readCluster,
  type Store,
} from "@cocoon-net/core";
import { type DriverPlaces, openCloud, openStore } from "../drivers.ts";
import type { PoolFile, RegistrationFile } from "../state-directory.ts";
import { type Diagnosis, ok, problem, warning } from "./diagnosis.ts";

export interface CheckOptions {
  readonly signal: AbortSignal;
  readonly drivers: DriverPlaces | undefined;
}

const slowStoreMs = 100;

/** Whether the store answers, how fast, what it promises, and whether it agrees that this node has its subnet. */
export async function* store(
  url: string | undefined,
  pool: PoolFile | undefined,
  registered: RegistrationFile | undefined,
  options: CheckOptions,
): AsyncGenerator<Diagnosis, void> {
  const check = "store";
  if (url === undefined) {
    yield registered === undefined
      ? ok(check, "none: this node stands alone")
      : warning(check, `this node is registered in ${registered.store}`, "give its --store URL");
    return;
  }
  await using opened = await openStore(url, options);
  const latency = await medianLatency(opened, options.signal);
  const { server, durability, trustworthy, linearizable } = opened.capabilities;
  const found = `${opened.label}: ${server}, answers in ${latency.toFixed(1)} ms`;
  yield latency > slowStoreMs ? warning(check, found, "use a store that is nearer") : ok(check, found);
  const promise = `${linearizable ? "linearizable" : "not linearizable"}; ${durability}`;
  yield trustworthy
    ? ok("store's promise", promise)
    : warning(
        "store's promise",
        promise,
        "what it confirms may be lost: the controller frees nothing by itself",
      );
  yield await membership(opened, pool, registered, options.signal);
}

async function membership(
  opened: Store,
  pool: PoolFile | undefined,
  registered: RegistrationFile | undefined,
  signal: AbortSignal,
): Promise<Diagnosis> {
  const check = "cluster";
  const rejoin = "run init or adopt again";
  try {
    const { config, incarnation } = await readCluster(opened, { signal, clusterUID: registered?.clusterUID });
    const cluster = `${config.parentCIDR} in /${config.nodePrefix} subnets`;
    if (incarnation?.recovering) {
      return warning(check, `${cluster}; it recovers from a loss of writes`, "wait: it ends by itself");
    }
    if (registered === undefined || pool === undefined)
      return ok(check, `${cluster}; this node has not joined`);
    const { node } = registered;
    const { reads } = await opened.txn(
      { then: [{ get: keys.subnet(node) }, { get: keys.node(node) }, { get: keys.alive(node) }] },
      { signal },
    );
    const [owned, record, alive] = reads;
    if (registered.lostAt !== undefined)
      return problem(check, `${node} lost its subnet at ${registered.lostAt}`, rejoin);
    if (owned === undefined || record === undefined)
      return problem(check, `${node} owns no subnet there`, rejoin);
    const { uid, status } = decode(nodeSchema, record);
    if (uid !== registered.uid)
      return problem(check, `the node ${node} there is another instance (${uid})`, rejoin);
    if (owned.value !== JSON.stringify(pool.subnet)) {
      return problem(check, `${node} owns ${owned.value} there, and ${pool.subnet} here`, rejoin);
    }
    const found = `${node} owns ${pool.subnet} of ${cluster}, and is ${status}`;
    if (status !== "ready") return warning(check, found, "`cocoon-net cluster events` says why");
    if (alive === undefined)
      return warning(check, `${found}, but silent`, "start the daemon with this --store");
    return ok(check, found);
  } catch (error) {
    const fix =
      error instanceof NotFoundError ? "`cocoon-net cluster init` creates one" : "check the --store URL";
    return problem(check, describeError(error), fix);
  }
}

async function medianLatency(opened: Store, signal: AbortSignal): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < 5; round++) {
    const began = performance.now();
    await opened.get(keys.config, { signal });
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[2] ?? 0;
}

/** Whether the metadata service answers, and the cloud lets this node ask about itself. */
export async function* cloud(platform: string, options: CheckOptions): AsyncGenerator<Diagnosis, void> {
  await using opened = await openCloud(platform, options.drivers);
  let instanceID: string;
  try {
    const self = await opened.describeSelf({ signal: options.signal });
    instanceID = self.instanceID;
    yield ok("metadata", `${platform}: ${self.instanceID} in ${self.zone}`);
  } catch (error) {
    const fix = `is this an instance of ${platform}? init needs its metadata service`;
    yield warning("metadata", describeError(error), fix);
    return;
  }
  const check = "cloud";
  try {
    const state = await opened.describeInstance(instanceID, options);
    yield state === "running"
      ? ok(check, `it says that ${instanceID} is running`)
      : warning(
          check,
          `it says that ${instanceID} is ${state}`,
          "check account and region of the credentials",
        );
  } catch (error) {
    const fix = "init, teardown and the controller need it; the daemon does not";
    const why = error instanceof AuthError ? "" : "the cloud cannot be asked: ";
    yield warning(check, `${why}${describeError(error)}`, fix);
  }
}
