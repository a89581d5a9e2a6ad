import { createHash } from "node:crypto";
import { formatAddress, hostRange, netmaskOf, parseCidr } from "@cocoon-net/core";
import type { HttpAnswer, HttpRequest } from "../http-listener.ts";
import type { GceAccess } from "./access.ts";
import type { GceProject } from "./project.ts";
import type { GceInstance } from "./state.ts";

type Tree = string | readonly Tree[] | { readonly [name: string]: Tree };

const base = "/computeMetadata/v1";
const tokenLifetimeSeconds = 3599;

/** The metadata server of an instance (facts §4.1). */
export class GceMetadata {
  readonly #project: GceProject;
  readonly #access: GceAccess;
  /** What ip-aliases shows, which may lag behind the API. */
  readonly #aliases = new Map<string, readonly string[]>();
  readonly #waiting = new Set<() => void>();

  constructor(project: GceProject, access: GceAccess) {
    this.#project = project;
    this.#access = access;
    for (const instance of project.instances.values()) this.#show(instance);
    project.timeline.onChange((change) => {
      if (change.kind === "alias") {
        const { id } = change.instance;
        const lag = project.delays.metadataLagMs;
        const show = () => {
          const now = project.instances.get(id);
          if (now !== undefined) this.#show(now);
          this.#wake();
        };
        if (lag > 0) project.later(lag, show);
        else show();
      }
      this.#wake();
    });
  }

  /** Who asks is told by the address the connection came from. */
  instanceAt(address: string): string | undefined {
    const plain = address.replace(/^::ffff:/, "");
    return [...this.#project.instances.values()].find(({ nic }) => nic.address === plain)?.id;
  }

  async answer(instanceID: string | undefined, request: HttpRequest): Promise<HttpAnswer> {
    const instance = instanceID === undefined ? undefined : this.#project.instances.get(instanceID);
    if (instance === undefined) return plain(404, "no such instance\n");
    if (request.headers["metadata-flavor"] !== "Google") {
      return plain(403, "Missing Metadata-Flavor:Google header.\n");
    }
    if (request.headers["x-forwarded-for"] !== undefined) return plain(403, "Forwarded.\n");
    if (request.method !== "GET") return plain(405, "Method Not Allowed\n");
    const query = new URLSearchParams(request.rawQuery);
    if (request.path === "/" || request.path === "/computeMetadata/") return plain(200, "v1/\n");
    if (!request.path.startsWith(`${base}/`)) return plain(404, "Not Found\n");
    const path = request.path.slice(base.length + 1);
    if (path === "instance/service-accounts/default/token") return this.#token(instance, query);

    const read = (): HttpAnswer => this.#read(instance.id, path, query);
    const now = read();
    if (query.get("wait_for_change") !== "true") return now;
    const lastEtag = query.get("last_etag");
    // `last_etag=0`, and any other that is not the present one, answers at once (facts §4.1).
    if (lastEtag !== null && lastEtag !== now.headers?.etag) return now;
    return await this.#changed(read, now, Number(query.get("timeout_sec") ?? Number.NaN));
  }

  async #changed(read: () => HttpAnswer, before: HttpAnswer, timeoutSeconds: number): Promise<HttpAnswer> {
    return await new Promise((resolve) => {
      const look = (): void => {
        const now = read();
        if (now.headers?.etag === before.headers?.etag) return;
        this.#waiting.delete(look);
        resolve(now);
      };
      this.#waiting.add(look);
      if (!(timeoutSeconds >= 0)) return;
      this.#project.later(timeoutSeconds * 1000, () => {
        this.#waiting.delete(look);
        resolve(read());
      });
    });
  }

  #token(instance: GceInstance, query: URLSearchParams): HttpAnswer {
    if (instance.scopes.length === 0) return plain(404, "no service account\n");
    const asked = query.get("scopes")?.split(",");
    const scopes = asked?.filter((scope) => instance.scopes.includes(scope)) ?? instance.scopes;
    return flavored({
      httpStatus: 200,
      body: {
        access_token: this.#access.issue(scopes, tokenLifetimeSeconds * 1000),
        expires_in: tokenLifetimeSeconds,
        token_type: "Bearer",
      },
    });
  }

  #read(id: string, path: string, query: URLSearchParams): HttpAnswer {
    const instance = this.#project.instances.get(id);
    if (instance === undefined) return plain(404, "no such instance\n");
    let node: Tree | undefined = this.#tree(instance);
    for (const part of path.split("/").filter((name) => name !== "")) {
      if (typeof node !== "object") return plain(404, "Not Found\n");
      const children: ReadonlyMap<string, Tree> = new Map(Object.entries(node));
      node = children.get(part);
    }
    if (node === undefined) return plain(404, "Not Found\n");
    if (query.get("recursive") === "true") return withEtag({ httpStatus: 200, body: camelCased(node) });
    if (typeof node === "string") return withEtag({ httpStatus: 200, body: node });
    const names = Object.entries(node).map(([name, child]) =>
      typeof child === "string" ? name : `${name}/`,
    );
    return withEtag({ httpStatus: 200, body: names.map((name) => `${name}\n`).join("") });
  }

  #tree(instance: GceInstance): Tree {
    const { number, project } = this.#project;
    const { nic } = instance;
    const subnetwork = this.#project.subnetworks.get(nic.subnetwork);
    const range = parseCidr(subnetwork?.cidr ?? "0.0.0.0/0");
    const account = `${number}-compute@developer.gserviceaccount.com`;
    return {
      instance: {
        attributes: {},
        hostname: `${instance.name}.${instance.zone}.c.${project}.internal`,
        id: instance.id,
        "maintenance-event": "NONE",
        name: instance.name,
        // No name of the subnetwork, and no fingerprint (facts §4.1).
        "network-interfaces": [
          {
            "access-configs": [{ "external-ip": "", type: "ONE_TO_ONE_NAT" }],
            "forwarded-ips": [],
            gateway: formatAddress(hostRange(range).first),
            ip: nic.address,
            "ip-aliases": [...(this.#aliases.get(instance.id) ?? [])],
            mac: nic.mac,
            mtu: "1460",
            network: `projects/${number}/networks/default`,
            subnetmask: formatAddress(netmaskOf(range.prefix)),
            "target-instance-ips": [],
          },
        ],
        preempted: instance.preempted ? "TRUE" : "FALSE",
        "service-accounts":
          instance.scopes.length === 0
            ? {}
            : { default: { aliases: "default\n", email: account, scopes: instance.scopes.join("\n") } },
        zone: `projects/${number}/zones/${instance.zone}`,
      },
      project: { attributes: {}, "numeric-project-id": number, "project-id": project },
    };
  }

  #show(instance: GceInstance): void {
    this.#aliases.set(
      instance.id,
      instance.nic.aliases.map((alias) => alias.cidr),
    );
  }

  #wake(): void {
    for (const look of [...this.#waiting]) look();
  }
}

/** `ip-aliases` is `ipAliases` in JSON. */
function camelCased(node: Tree): unknown {
  if (typeof node === "string") return node;
  if (isList(node)) return node.map(camelCased);
  return Object.fromEntries(
    Object.entries(node).map(([name, child]) => [
      name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      camelCased(child),
    ]),
  );
}

function isList(node: Tree): node is readonly Tree[] {
  return Array.isArray(node);
}

function plain(httpStatus: number, body: string): HttpAnswer {
  return flavored({ httpStatus, body });
}

function withEtag(answer: HttpAnswer): HttpAnswer {
  const etag = createHash("sha256").update(JSON.stringify(answer.body)).digest("hex").slice(0, 16);
  return flavored({ ...answer, headers: { etag } });
}

/** Every answer carries the header, by which clients know the server (facts §1.1). */
function flavored(answer: HttpAnswer): HttpAnswer {
  return {
    ...answer,
    headers: { ...answer.headers, "metadata-flavor": "Google", server: "Metadata Server for VM" },
  };
}
