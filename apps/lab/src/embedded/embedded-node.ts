import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  BuiltinLeaseBook,
  ClusterLink,
  createLogger,
  FileJob,
  joinCluster,
  StateDirectory,
} from "@cocoon-net/agent";
import {
  type Cloud,
  DisposeStack,
  formatAddress,
  hostRange,
  parseCidr,
  type Registration,
  type Store,
} from "@cocoon-net/core";
import { type MemoryDatabase, MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";
import { SimulatedBridge } from "./dhcp-client.ts";

export interface EmbeddedNodeOptions {
  readonly name: string;
  readonly database: MemoryDatabase;
  /** As this instance sees it. */
  readonly cloud: Cloud;
  /** For the node's files; it is made. */
  readonly directory: string;
  readonly sessionTtlMs: number;
}

const log = createLogger({ COCOON_NET_LOG_LEVEL: "silent" });

/** An instance with its agent: what `init` and `daemon` do, with their own parts, on a simulated kernel. */
export class EmbeddedNode implements AsyncDisposable {
  readonly instanceID: string;
  readonly bridge: SimulatedBridge;
  /** Addresses with a /32 route to the bridge: all that is simulated of the kernel. */
  readonly routes: ReadonlySet<string>;
  readonly #leaseFile: string;
  readonly #link: MemoryLink;
  readonly #parts: DisposeStack;

  private constructor(
    instanceID: string,
    bridge: SimulatedBridge,
    routes: ReadonlySet<string>,
    leaseFile: string,
    link: MemoryLink,
    parts: DisposeStack,
  ) {
    this.instanceID = instanceID;
    this.bridge = bridge;
    this.routes = routes;
    this.#leaseFile = leaseFile;
    this.#link = link;
    this.#parts = parts;
  }

  static async start(options: EmbeddedNodeOptions): Promise<EmbeddedNode> {
    const { name, database, cloud, directory, sessionTtlMs } = options;
    await using parts = new DisposeStack();
    const link = new MemoryLink();
    const store = parts.use(openMemoryStore({ database, link }));
    await mkdir(directory);
    const state = new StateDirectory(directory);
    const { instanceID, zone } = await cloud.describeSelf();
    const register = (through: Store): Promise<Registration> =>
      joinCluster(through, state, { node: name, platform: "volcengine", instanceID, zone });
    const registration = await register(store);
    const pool = await provision(name, cloud, registration, state);
    const bridge = new SimulatedBridge();
    const routes = new Set<string>();
    const leaseFile = join(directory, "leases.json");
    const stop = new AbortController();
    const book = await BuiltinLeaseBook.start(
      {
        ...{ pool, state, leaseFile, log, granting: "renew-only" },
        network: {
          addRoute: async (ip) => void routes.add(ip),
          removeRoute: async (ip) => void routes.delete(ip),
          setNeighbour: async () => {},
          listRoutes: async () => [...routes],
        },
        openSocket: async () => bridge,
      },
      stop.signal,
    );
    parts.use(book);
    const membership = new ClusterLink({
      open: async () => openMemoryStore({ database, link }),
      register,
      ...{ book, sessionTtlMs, log },
    });
    const running = membership.run(stop.signal);
    parts.defer(async () => {
      stop.abort();
      await running;
    });
    return new EmbeddedNode(instanceID, bridge, routes, leaseFile, link, parts.move());
  }

  async leasesFile(): Promise<{ mac: string; ip: string }[]> {
    const text = await readFile(this.#leaseFile, "utf8").catch(() => "[]");
    return JSON.parse(text) as { mac: string; ip: string }[];
  }

  /** To the store a killed process is one that never speaks again. */
  silence(): void {
    this.#link.blackhole();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts[Symbol.asyncDispose]();
  }
}

async function provision(node: string, cloud: Cloud, registration: Registration, state: StateDirectory) {
  const { subnet, config } = registration;
  const instance = await cloud.describeSelf();
  const job = await FileJob.open(state.jobPath, "init");
  const tags = {
    "cocoon-net:node": node,
    "cocoon-net:instance": instance.instanceID,
    "cocoon-net:cluster": config.clusterUID,
  };
  const { addresses, eniIDs, subnetID } = await cloud.provision(
    { node, instance, subnet, poolSize: 40, tags },
    job,
  );
  const known = { eniIDs, ...(subnetID === undefined ? {} : { subnetID }) };
  const pool = await state.writePool({
    ...{ platform: "volcengine", nodeName: node, subnet, ips: addresses, dnsServers: ["8.8.8.8"] },
    gateway: formatAddress(hostRange(parseCidr(subnet)).first),
    ...known,
  });
  await registration.update({
    ...known,
    pool: { size: addresses.length, leased: 0, free: addresses.length },
  });
  await job.finish();
  return pool;
}
