import { writeFile } from "node:fs/promises";
import {
  isDelivering,
  type SimulatedEni,
  type SimulatorClock,
  type VolcengineChange,
  VolcengineSimulator,
} from "@cocoon-net/cloud-testkit";
import { formatAddress, parseAddress } from "@cocoon-net/core";
import { ip, ipBatch } from "./ip-command.ts";

export const fabricAddress = "172.31.0.1";
/**
 * Fixed, or the bridge takes the lowest of its ports: an instance that joins with a lower one then cuts others off from the
 * cloud and the store until their ARP entries end, half a minute later.
 */
const fabricMAC = "02:00:00:00:ff:01";
export const metadataAddress = "100.96.0.96";
export const apiPort = 8080;
const nodeSubnet = "172.31.0.0/20";

/**
 * Plays the VPC in the network namespace of this process: the bridge that the instances' primary NICs hang on,
 * the simulated cloud with its metadata service at its real address, and, for every attached ENI, a hot-plugged
 * NIC in its instance's namespace with a host route for each of its addresses. When the simulator says that an
 * ENI is detached its NIC and routes go: a fence here really stops traffic.
 */
export class Fabric implements AsyncDisposable {
  readonly simulator: VolcengineSimulator;
  readonly #namespaces = new Map<string, string>();
  readonly #nics = new Map<string, number>();
  #work: Promise<void> = Promise.resolve();
  #failure: unknown;

  private constructor(clock: SimulatorClock | undefined) {
    const clockOption = clock === undefined ? {} : { clock };
    this.simulator = new VolcengineSimulator({ vpcCIDR: "172.20.0.0/16", nodeSubnet, ...clockOption });
  }

  /** @param clock of the simulated cloud */
  static async start(clock?: SimulatorClock): Promise<Fabric> {
    const fabric = new Fabric(clock);
    await ipBatch([
      "link set lo up",
      `address add ${metadataAddress}/32 dev lo`,
      `link add vpc0 address ${fabricMAC} type bridge`,
      `address add ${fabricAddress}/20 dev vpc0`,
      "link set vpc0 up",
    ]);
    for (const [name, value] of [
      ["ip_forward", "1"],
      ["conf/all/rp_filter", "0"],
      ["conf/default/rp_filter", "0"],
      ["conf/all/send_redirects", "0"],
      ["conf/default/send_redirects", "0"],
    ] as const) {
      await writeFile(`/proc/sys/net/ipv4/${name}`, value);
    }
    fabric.simulator.onChange((change) => fabric.#onChange(change));
    await fabric.simulator.listen({
      api: { host: fabricAddress, port: apiPort },
      metadata: { host: metadataAddress, port: 80 },
    });
    return fabric;
  }

  /** Makes an instance whose kernel is a network namespace, with its primary NIC on the VPC. @returns its address */
  async addInstance(instanceID: string, namespace: string, number: number): Promise<string> {
    const address = formatAddress(parseAddress(fabricAddress) + 10 + number);
    const mac = `02:00:00:00:00:${number.toString(16).padStart(2, "0")}`;
    const port = `p-${number}`;
    await ipBatch([
      `link add ${port} type veth peer name eth0 address ${mac} netns ${namespace}`,
      `link set ${port} master vpc0`,
      `link set ${port} up`,
    ]);
    await ipBatch(
      [
        "link set lo up",
        `address add ${address}/20 dev eth0`,
        "link set eth0 up",
        `route add default via ${fabricAddress}`,
      ],
      { netns: namespace },
    );
    this.#namespaces.set(instanceID, namespace);
    this.simulator.addInstance({ instanceID, primaryAddress: address, primaryMAC: mac });
    return address;
  }

  /** Resolves when the kernel shows what the simulator says. @throws what went wrong on the way. */
  async settled(): Promise<void> {
    await this.#work;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.simulator[Symbol.asyncDispose]();
    await this.#work;
  }

  #onChange(change: VolcengineChange): void {
    if (change.kind !== "eni" || (change.after ?? change.before)?.type === "primary") return;
    this.#work = this.#work
      .then(() => this.#follow(change.before, change.after))
      .catch((error: unknown) => {
        this.#failure ??= error;
      });
  }

  async #follow(before: SimulatedEni | undefined, after: SimulatedEni | undefined): Promise<void> {
    const was = isDelivering(before);
    const is = isDelivering(after);
    if (was && !is && before) await ip("link", "delete", linkOf(before));
    if (!is || !after) return;
    if (!was) await this.#plug(after);
    const old = was ? addressesOf(before) : new Set<string>();
    const now = addressesOf(after);
    const link = linkOf(after);
    await ipBatch([
      ...[...old.difference(now)].map((address) => `route delete ${address}/32 dev ${link}`),
      ...[...now.difference(old)].flatMap((address) => [
        `route replace ${address}/32 dev ${link} scope link`,
        `neighbour replace ${address} lladdr ${after.mac} dev ${link} nud permanent`,
      ]),
    ]);
  }

  async #plug(eni: SimulatedEni): Promise<void> {
    const namespace = this.#namespaces.get(eni.instanceID ?? "");
    if (namespace === undefined)
      throw new Error(`ENI ${eni.eniID} is attached to an instance without a kernel`);
    const number = (this.#nics.get(namespace) ?? 0) + 1;
    this.#nics.set(namespace, number);
    const link = linkOf(eni);
    await ipBatch([
      `link add ${link} type veth peer name eth${number} address ${eni.mac} netns ${namespace}`,
      `link set ${link} up`,
    ]);
  }
}

function linkOf(eni: SimulatedEni): string {
  return `e-${eni.mac.replaceAll(":", "").slice(-10)}`;
}

function addressesOf(eni: SimulatedEni | undefined): Set<string> {
  return new Set(eni?.addresses.filter(({ primary }) => !primary).map(({ address }) => address));
}
