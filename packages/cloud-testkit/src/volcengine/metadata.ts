import { randomBytes } from "node:crypto";
import type { VolcengineAccount } from "./account.ts";
import { attachedEnis } from "./lookup.ts";
import type { SimulatedEni, SimulatedInstance } from "./state.ts";

export interface MetadataRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export interface MetadataAnswer {
  readonly httpStatus: number;
  readonly body: string;
}

const notFound: MetadataAnswer = { httpStatus: 404, body: "Not Found\n" };

/** The instance metadata service (facts §4). */
export class VolcengineMetadata {
  readonly #account: VolcengineAccount;
  readonly #tokenRequired: boolean;
  readonly #tokens = new Map<string, { instanceID: string; until: number }>();

  /** @param tokenRequired plays `HttpTokens: required` (facts §4.2). */
  constructor(account: VolcengineAccount, tokenRequired: boolean) {
    this.#account = account;
    this.#tokenRequired = tokenRequired;
  }

  /** Who asks is told by the address the connection came from. */
  instanceAt(address: string): string | undefined {
    const plain = address.replace(/^::ffff:/, "");
    for (const instance of this.#account.instances.values()) {
      if (instance.primaryAddress === plain) return instance.instanceID;
    }
    return undefined;
  }

  answer(instanceID: string | undefined, request: MetadataRequest): MetadataAnswer {
    const instance = instanceID === undefined ? undefined : this.#account.instances.get(instanceID);
    if (instance === undefined) return notFound;
    // Items are not case-sensitive; /volcstack/latest is the same tree (facts §4.1).
    const path = request.path
      .toLowerCase()
      .replace(/^\/volcstack/, "")
      .replace(/\/$/, "");
    if (path === "/latest/api/token") return this.#issueToken(instance.instanceID, request);
    if (request.method !== "GET") return { httpStatus: 405, body: "Method Not Allowed\n" };
    const token = request.headers["x-volc-ecs-metadata-token"];
    const known = typeof token === "string" ? this.#tokens.get(token) : undefined;
    const valid = known?.instanceID === instance.instanceID && known.until > this.#account.clock.now();
    if ((token !== undefined || this.#tokenRequired) && !valid)
      return { httpStatus: 401, body: "Unauthorized\n" };

    const items = this.#items(instance);
    if (path === "/latest") {
      return {
        httpStatus: 200,
        body: [...new Set(Object.keys(items).map((name) => name.split("/")[0]))].join("\n"),
      };
    }
    // The undocumented EC2-like alias: hyphens for underscores, and other names for a few (facts §4.1).
    const alias = /^\/latest\/meta-data\/(.+)$/.exec(path)?.[1];
    const renamed: Readonly<Record<string, string>> = {
      "placement/availability-zone": "availability_zone",
      "local-ipv4": "private_ipv4",
    };
    const name =
      alias === undefined ? path.replace(/^\/latest\//, "") : (renamed[alias] ?? alias.replaceAll("-", "_"));
    const value = Object.hasOwn(items, name) ? items[name] : undefined;
    return value === undefined ? notFound : { httpStatus: 200, body: value };
  }

  #issueToken(instanceID: string, request: MetadataRequest): MetadataAnswer {
    if (request.method !== "PUT") return { httpStatus: 405, body: "Method Not Allowed\n" };
    const ttl = Number(request.headers["x-volc-ecs-metadata-token-ttl-seconds"]);
    if (!(ttl >= 1 && ttl <= 21_600)) return { httpStatus: 400, body: "Bad Request\n" };
    const token = randomBytes(24).toString("base64url");
    this.#tokens.set(token, { instanceID, until: this.#account.clock.now() + ttl * 1000 });
    return { httpStatus: 200, body: token };
  }

  #items(instance: SimulatedInstance): Record<string, string> {
    const enis = attachedEnis(this.#account, instance.instanceID).filter((eni) => eni.status === "InUse");
    const primary = enis.find((eni) => eni.type === "primary");
    return {
      instance_id: instance.instanceID,
      instance_type_id: instance.type,
      region_id: this.#account.region,
      availability_zone: instance.zone,
      vpc_id: instance.vpcID,
      vpc_cidr_block: this.#account.vpcs.get(instance.vpcID)?.cidr ?? "",
      mac: primary?.mac ?? "",
      hostname: instance.name,
      private_ipv4: instance.primaryAddress,
      site_name: "Volcengine",
      "network/interfaces/macs": enis.map((eni) => `${eni.mac}\n`).join(""),
      ...Object.fromEntries(enis.flatMap((eni) => networkItems(eni))),
    };
  }
}

function networkItems(eni: SimulatedEni): [string, string][] {
  const secondary = eni.addresses.filter((held) => !held.primary).map((held) => held.address);
  const primary = eni.addresses.find((held) => held.primary)?.address ?? "";
  const items = {
    network_interface_id: eni.eniID,
    primary_ip_address: primary,
    private_ipv4s: secondary.join("\n"),
    subnet_id: eni.subnetID,
    subnet_cidr_block: eni.subnet,
  };
  return Object.entries(items).map(([name, value]) => [`network/interfaces/macs/${eni.mac}/${name}`, value]);
}
