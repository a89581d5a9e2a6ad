import { randomBytes } from "node:crypto";
import { formatAddress, hostRange, parseCidr } from "@cocoon-net/core";
import type { HttpAnswer, HttpRequest } from "../http-listener.ts";
import type { VolcengineAccess } from "./access.ts";
import type { VolcengineAccount } from "./account.ts";
import type { VolcengineBehaviour } from "./behaviour.ts";
import { attachedEnis } from "./lookup.ts";
import type { SimulatedEni, SimulatedInstance } from "./state.ts";
import { beijingTime } from "./wire.ts";

const notFound: HttpAnswer = { httpStatus: 404, body: "Not Found\n" };
const notAllowed: HttpAnswer = { httpStatus: 405, body: "Method Not Allowed\n" };

/** The undocumented EC2-like alias has other names for a few (facts §4.1). */
const renamed: Readonly<Record<string, string>> = {
  "placement/availability-zone": "availability_zone",
  "local-ipv4": "private_ipv4",
};

/** The instance metadata service (facts §4). */
export class VolcengineMetadata {
  readonly #account: VolcengineAccount;
  readonly #access: VolcengineAccess;
  readonly #tokenMode: VolcengineBehaviour["metadataTokens"];
  readonly #tokens = new Map<string, { instanceID: string; until: number }>();

  constructor(
    account: VolcengineAccount,
    access: VolcengineAccess,
    tokenMode: VolcengineBehaviour["metadataTokens"],
  ) {
    this.#account = account;
    this.#access = access;
    this.#tokenMode = tokenMode;
  }

  /** Who asks is told by the address the connection came from. */
  instanceAt(address: string): string | undefined {
    const plain = address.replace(/^::ffff:/, "");
    for (const instance of this.#account.instances.values()) {
      if (instance.primaryAddress === plain) return instance.instanceID;
    }
    return undefined;
  }

  answer(instanceID: string | undefined, request: HttpRequest): HttpAnswer {
    const instance = instanceID === undefined ? undefined : this.#account.instances.get(instanceID);
    if (instance === undefined) return notFound;
    const given = request.path.replace(/\/$/, "");
    // Items are not case-sensitive; /volcstack/latest is the same tree (facts §4.1).
    const path = given.toLowerCase().replace(/^\/volcstack/, "");
    if (path === "/latest/api/token") return this.#issueToken(instance.instanceID, request);
    if (request.method !== "GET") return notAllowed;
    if (!this.#isAdmitted(instance, request)) return { httpStatus: 401, body: "Unauthorized\n" };
    const name = itemName(path, this.#account.behaviour.metadataItems);
    if (name === undefined) return notFound;
    const role = /^iam\/security_credentials(?:\/(.+))?$/.exec(name);
    if (role !== null) {
      // A role's name is as it was given.
      const asked = role[1] === undefined ? undefined : given.slice(given.lastIndexOf("/") + 1);
      return this.#credentials(asked, new URLSearchParams(request.rawQuery));
    }
    const items = this.#items(instance);
    if (name === "")
      return text([...new Set(Object.keys(items).map((item) => item.split("/")[0]))].join("\n"));
    return Object.hasOwn(items, name) ? text(items[name] ?? "") : notFound;
  }

  #isAdmitted(instance: SimulatedInstance, { headers }: HttpRequest): boolean {
    if (this.#tokenMode === "none") return true;
    const token = headers["x-volc-ecs-metadata-token"];
    if (token === undefined) return this.#tokenMode !== "required";
    const known = typeof token === "string" ? this.#tokens.get(token) : undefined;
    return known?.instanceID === instance.instanceID && known.until > this.#account.clock.now();
  }

  /** Facts §4.2. */
  #issueToken(instanceID: string, request: HttpRequest): HttpAnswer {
    if (this.#tokenMode === "none") return notFound;
    if (request.method !== "PUT") return notAllowed;
    const ttl = Number(request.headers["x-volc-ecs-metadata-token-ttl-seconds"]);
    if (!(ttl >= 1 && ttl <= 21_600)) return { httpStatus: 400, body: "Bad Request\n" };
    const token = randomBytes(24).toString("base64url");
    this.#tokens.set(token, { instanceID, until: this.#account.clock.now() + ttl * 1000 });
    return text(token);
  }

  /** Facts §4.3. */
  #credentials(role: string | undefined, query: URLSearchParams): HttpAnswer {
    const own = this.#access.role;
    if (own === undefined) return notFound;
    if (role === undefined) {
      return text(query.get("format") === "json" ? JSON.stringify([own.name]) : own.name);
    }
    if (role !== own.name) return notFound;
    const { accessKeyID, secretAccessKey, sessionToken, until } = this.#access.issue();
    return {
      httpStatus: 200,
      body: {
        AccessKeyId: accessKeyID,
        SecretAccessKey: secretAccessKey,
        SessionToken: sessionToken,
        ExpiredTime: beijingTime(until),
        CurrentTime: beijingTime(this.#account.clock.now()),
      },
    };
  }

  #items(instance: SimulatedInstance): Record<string, string> {
    const { delays, behaviour, clock, region } = this.#account;
    const lag = delays.metadataLagMs;
    const seen = lag > 0 ? this.#account.asOf({ ms: clock.now() - lag }) : this.#account;
    const enis = attachedEnis(seen, instance.instanceID).filter((eni) => eni.status === "InUse");
    const macOf = (mac: string): string => mac.replaceAll(":", behaviour.macSeparator);
    const primary = enis.find((eni) => eni.type === "primary");
    const macs = [
      ...enis.map((eni) => eni.mac),
      ...(behaviour.foreignNics ? ["02:00:00:ff:ff:01", "02:00:00:ff:ff:02"] : []),
    ];
    return {
      instance_id: instance.instanceID,
      instance_type_id: instance.type,
      instance_type: instance.type,
      region_id: region,
      availability_zone: instance.zone,
      vpc_id: instance.vpcID,
      vpc_cidr_block: seen.vpcs.get(instance.vpcID)?.cidr ?? "",
      mac: macOf(primary?.mac ?? ""),
      hostname: instance.name,
      private_ipv4: instance.primaryAddress,
      site_name: "Volcengine",
      "network/interfaces/macs": macs.map((mac) => `${macOf(mac)}\n`).join(""),
      ...Object.fromEntries(
        enis.flatMap((eni) =>
          Object.entries(networkItems(eni)).map(([name, value]) => [
            `network/interfaces/macs/${macOf(eni.mac)}/${name}`,
            value,
          ]),
        ),
      ),
    };
  }
}

/** The published name of the item at a path; undefined when the path is spelt as this service does not know. */
function itemName(path: string, spelling: VolcengineBehaviour["metadataItems"]): string | undefined {
  const alias = /^\/latest\/meta-data\/(.+)$/.exec(path)?.[1];
  if (alias !== undefined) {
    if (spelling === "underscores") return undefined;
    return renamed[alias] ?? alias.replaceAll("-", "_");
  }
  if (path === "/latest") return "";
  if (spelling === "hyphens" || !path.startsWith("/latest/")) return undefined;
  return path.slice("/latest/".length);
}

function networkItems(eni: SimulatedEni): Record<string, string> {
  const secondary = eni.addresses.filter((held) => !held.primary).map((held) => held.address);
  const primary = eni.addresses.find((held) => held.primary)?.address ?? "";
  const gateway = formatAddress(hostRange(parseCidr(eni.subnet)).first);
  return {
    network_interface_id: eni.eniID,
    primary_ip_address: primary,
    private_ipv4s: secondary.join("\n"),
    private_ip_addresses: secondary.join("\n"),
    gateway,
    subnet_id: eni.subnetID,
    subnet_cidr_block: eni.subnet,
    network_info: JSON.stringify({
      NetworkInterfaceId: eni.eniID,
      PrimaryIpAddress: primary,
      Gateway: gateway,
      SubnetId: eni.subnetID,
      SubnetCidrBlock: eni.subnet,
      PrivateIpv4s: secondary,
    }),
  };
}

function text(body: string): HttpAnswer {
  return { httpStatus: 200, body };
}
