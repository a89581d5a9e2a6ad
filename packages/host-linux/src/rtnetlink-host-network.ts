import {
  type Address,
  ConflictError,
  formatAddress,
  InvalidError,
  NotFoundError,
  parseAddress,
} from "@cocoon-net/core";
import type { CallOptions, HostNetwork } from "./host-network.ts";
import { checkInterfaceName } from "./interface-name.ts";
import { kernelError } from "./kernel-errors.ts";
import { type Answer, NetlinkSocket, type Request } from "./netlink-socket.ts";
import type { InterfaceAddress, Link, LinkSelector } from "./rtnetlink.ts";
import * as rt from "./rtnetlink.ts";

type Step = Omit<Request, "what" | "signal">;

export class RtnetlinkHostNetwork implements HostNetwork {
  readonly #socket: NetlinkSocket;
  /** By name. An entry is a guess: when the kernel refuses, it is looked up again (the link may be a new one). */
  readonly #indexes: Map<string, number> = new Map();

  constructor(timeoutMs: number) {
    this.#socket = new NetlinkSocket(timeoutMs);
  }

  async getLink(by: LinkSelector, options: CallOptions = {}): Promise<Link | undefined> {
    if ("mac" in by) {
      const mac = by.mac.toLowerCase();
      return (await this.listLinks(options)).find((link) => link.mac === mac);
    }
    const what = `look up link ${"name" in by ? by.name : by.index}`;
    const payload = rt.encodeLink("name" in by ? { name: checkInterfaceName(by.name) } : by);
    const answer = await this.#socket.get({ what, type: rt.RTM_GETLINK, payload, ...options });
    if (!wasThere(what, answer, "ENODEV")) return undefined;
    const [message] = answer.payloads;
    return message === undefined ? undefined : rt.decodeLink(message);
  }

  async listLinks(options: CallOptions = {}): Promise<Link[]> {
    const request = { what: "list links", type: rt.RTM_GETLINK, payload: rt.encodeLink({}), ...options };
    return (await this.#socket.list(request)).map(rt.decodeLink);
  }

  async ensureBridge(name: string, options: CallOptions & { readonly mac?: string } = {}): Promise<boolean> {
    const { signal, mac } = options;
    const existing = await this.getLink({ name }, { signal });
    if (existing !== undefined) return mustBeBridge(existing);
    const what = `create bridge ${name}`;
    const payload = rt.encodeLink({ name, kind: "bridge", mac });
    const flags = rt.NLM_F_CREATE | rt.NLM_F_EXCL;
    const answer = await this.#socket.change({ what, type: rt.RTM_NEWLINK, payload, flags, signal });
    if (answer.refusal === "EEXIST") {
      // Somebody was faster.
      const winner = await this.getLink({ name }, { signal });
      if (winner !== undefined) return mustBeBridge(winner);
    }
    if (answer.refusal === "EOPNOTSUPP") {
      const hint = 'the kernel has no module "bridge" loaded; load it with: modprobe bridge';
      throw kernelError(what, answer.refusal, { ...answer, hint });
    }
    mustSucceed(what, answer);
    return true;
  }

  setLinkUp(name: string, options: CallOptions = {}): Promise<boolean> {
    return this.#setLink(name, true, options);
  }

  setLinkDown(name: string, options: CallOptions = {}): Promise<boolean> {
    return this.#setLink(name, false, options);
  }

  async #setLink(name: string, up: boolean, options: CallOptions): Promise<boolean> {
    const what = `set link ${name} ${up ? "up" : "down"}`;
    const link = await this.getLink({ name }, options);
    if (link === undefined) throw noSuchLink(what, name);
    if (link.up === up) return false;
    const payload = rt.encodeLink({ index: link.index, up });
    mustSucceed(what, await this.#socket.change({ what, type: rt.RTM_NEWLINK, payload, ...options }));
    return true;
  }

  async deleteLink(name: string, options: CallOptions = {}): Promise<boolean> {
    const what = `delete link ${name}`;
    const payload = rt.encodeLink({ name: checkInterfaceName(name) });
    const answer = await this.#socket.change({ what, type: rt.RTM_DELLINK, payload, ...options });
    return wasThere(what, answer, "ENODEV");
  }

  async listAddresses(device: string, options: CallOptions = {}): Promise<string[]> {
    return (await this.#addressesOf(device, options)).map(formatInterfaceAddress);
  }

  async #addressesOf(device: string, options: CallOptions): Promise<InterfaceAddress[]> {
    const what = `list addresses of ${device}`;
    const index = await this.#lookUpIndex(what, device, options);
    const payload = rt.encodeAddressQuery();
    const messages = await this.#socket.list({ what, type: rt.RTM_GETADDR, payload, ...options });
    return messages
      .map(rt.decodeAddress)
      .filter((address) => address !== undefined)
      .filter((address) => address.index === index);
  }

  async ensureAddress(address: string, device: string, options: CallOptions = {}): Promise<boolean> {
    const wanted = parseInterfaceAddress(address);
    const same = (await this.#addressesOf(device, options)).filter(
      (found) => found.address === wanted.address,
    );
    const stale = same.filter((found) => found.prefix !== wanted.prefix);
    const isMissing = same.length === stale.length;
    if (isMissing) {
      const what = `add address ${address} to ${device}`;
      const answer = await this.#onDevice(what, device, options, (index) => ({
        type: rt.RTM_NEWADDR,
        payload: rt.encodeAddress(index, wanted),
        flags: rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
      }));
      mustSucceed(what, answer);
    }
    for (const found of stale) await this.deleteAddress(formatInterfaceAddress(found), device, options);
    return isMissing || stale.length > 0;
  }

  async deleteAddress(address: string, device: string, options: CallOptions = {}): Promise<boolean> {
    const local = parseInterfaceAddress(address);
    return await this.#delete(
      `delete address ${address} from ${device}`,
      device,
      options,
      "EADDRNOTAVAIL",
      (index) => ({
        type: rt.RTM_DELADDR,
        payload: rt.encodeAddress(index, local),
      }),
    );
  }

  async replaceHostRoute(address: string, device: string, options: CallOptions = {}): Promise<void> {
    const destination = parseAddress(address);
    const what = `add route ${address}/32 dev ${device}`;
    const answer = await this.#onDevice(what, device, options, (index) => ({
      type: rt.RTM_NEWROUTE,
      payload: rt.encodeHostRoute(destination, index, "add"),
      flags: rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
    }));
    mustSucceed(what, answer);
  }

  async replaceHostRoutes(
    addresses: readonly string[],
    device: string,
    options: CallOptions = {},
  ): Promise<ReadonlyMap<string, unknown>> {
    const failures = new Map<string, unknown>();
    const oneByOne = async (address: string): Promise<void> => {
      await this.replaceHostRoute(address, device, options).catch((error: unknown) => {
        failures.set(address, error);
      });
    };
    const index = this.#indexes.get(device);
    // Whatever is refused of many is tried alone: that knows new links, and says what was wrong.
    const places =
      index === undefined || addresses.length < 2
        ? addresses.keys()
        : await this.#socket.changeAll({
            what: `add ${addresses.length} routes dev ${device}`,
            type: rt.RTM_NEWROUTE,
            payloads: addresses.map((address) => rt.encodeHostRoute(parseAddress(address), index, "add")),
            flags: rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
            ...options,
          });
    await Promise.all(Array.from(places, (place) => oneByOne(addresses[place] ?? "")));
    return failures;
  }

  async deleteHostRoute(address: string, device: string, options: CallOptions = {}): Promise<boolean> {
    const destination = parseAddress(address);
    const what = `delete route ${address}/32 dev ${device}`;
    return await this.#delete(what, device, options, "ESRCH", (index) => ({
      type: rt.RTM_DELROUTE,
      payload: rt.encodeHostRoute(destination, index, "delete"),
    }));
  }

  async listHostRoutes(device: string, options: CallOptions = {}): Promise<string[]> {
    const what = `list routes of ${device}`;
    const index = await this.#lookUpIndex(what, device, options);
    const messages = await this.#listRoutes(what, options);
    const addresses: Address[] = [];
    for (const message of messages) {
      const route = rt.decodeHostRoute(message);
      if (route?.index === index) addresses.push(route.address);
    }
    return addresses.sort((a, b) => a - b).map(formatAddress);
  }

  async replaceRouteAway(
    address: string,
    device: string | undefined,
    options: CallOptions = {},
  ): Promise<void> {
    const destination = parseAddress(address);
    const routes = (await this.#listRoutes("list default routes", options))
      .map(rt.decodeDefaultRoute)
      .filter((route) => route !== undefined)
      .sort((a, b) => a.metric - b.metric);
    const preferred =
      device === undefined ? undefined : (await this.getLink({ name: device }, options))?.index;
    const hop = routes.find(({ index }) => index === preferred) ?? routes[0];
    const what = `add route ${address}/32 through the default gateway`;
    if (hop === undefined) throw new NotFoundError(`${what}: there is no default route with a gateway`);
    mustSucceed(
      what,
      await this.#socket.change({
        what,
        type: rt.RTM_NEWROUTE,
        payload: rt.encodeRouteAway(destination, hop),
        flags: rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
        ...options,
      }),
    );
  }

  async deleteRouteAway(address: string, options: CallOptions = {}): Promise<boolean> {
    const payload = rt.encodeRouteAwayDeletion(parseAddress(address));
    const what = `delete route ${address}/32 through the default gateway`;
    return wasThere(
      what,
      await this.#socket.change({ what, type: rt.RTM_DELROUTE, payload, ...options }),
      "ESRCH",
    );
  }

  async listRoutesAway(options: CallOptions = {}): Promise<string[]> {
    return (await this.#listRoutes("list routes of moved addresses", options))
      .map(rt.decodeRouteAway)
      .filter((address) => address !== undefined)
      .sort((a, b) => a - b)
      .map(formatAddress);
  }

  #listRoutes(what: string, options: CallOptions): Promise<readonly Buffer[]> {
    const payload = rt.encodeRouteQuery();
    return this.#socket.list({ what, type: rt.RTM_GETROUTE, payload, ...options });
  }

  async replaceNeighbour(
    address: string,
    mac: string,
    device: string,
    options: CallOptions = {},
  ): Promise<void> {
    const destination = parseAddress(address);
    const what = `add neighbour ${address} lladdr ${mac} dev ${device}`;
    const answer = await this.#onDevice(what, device, options, (index) => ({
      type: rt.RTM_NEWNEIGH,
      payload: rt.encodeNeighbour(destination, index, mac),
      flags: rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
    }));
    mustSucceed(what, answer);
  }

  async deleteNeighbour(address: string, device: string, options: CallOptions = {}): Promise<boolean> {
    const destination = parseAddress(address);
    const what = `delete neighbour ${address} dev ${device}`;
    return await this.#delete(what, device, options, "ENOENT", (index) => ({
      type: rt.RTM_DELNEIGH,
      payload: rt.encodeNeighbour(destination, index),
    }));
  }

  /** What belongs to a device goes with it: where there is no device, there is nothing to delete. */
  async #delete(
    what: string,
    device: string,
    options: CallOptions,
    absent: string,
    step: (index: number) => Step,
  ): Promise<boolean> {
    try {
      return wasThere(what, await this.#onDevice(what, device, options, step), absent);
    } catch (error) {
      if (error instanceof NotFoundError) return false;
      throw error;
    }
  }

  /** Takes a step on a device by its index; once more when that is refused and the device has a new index. */
  async #onDevice(
    what: string,
    device: string,
    options: CallOptions,
    step: (index: number) => Step,
  ): Promise<Answer> {
    const known = this.#indexes.get(device);
    if (known !== undefined) {
      const answer = await this.#socket.change({ what, ...options, ...step(known) });
      if (answer.refusal === undefined) return answer;
      if ((await this.#lookUpIndex(what, device, options)) === known) return answer;
    }
    const index = await this.#lookUpIndex(what, device, options);
    return await this.#socket.change({ what, ...options, ...step(index) });
  }

  async #lookUpIndex(what: string, device: string, options: CallOptions): Promise<number> {
    const link = await this.getLink({ name: device }, options);
    if (link === undefined) {
      this.#indexes.delete(device);
      throw noSuchLink(what, device);
    }
    this.#indexes.set(device, link.index);
    return link.index;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#socket[Symbol.asyncDispose]();
  }
}

function mustSucceed(what: string, answer: Answer): void {
  if (answer.refusal !== undefined) throw kernelError(what, answer.refusal, answer);
}

function wasThere(what: string, answer: Answer, absent: string): boolean {
  if (answer.refusal === absent || answer.refusal === "ENODEV") return false;
  mustSucceed(what, answer);
  return true;
}

function mustBeBridge(link: Link): false {
  if (link.kind === "bridge") return false;
  throw new ConflictError(
    `create bridge ${link.name}: the name belongs to a ${link.kind ?? "physical"} link`,
    {
      hint: "rename that link, or choose another bridge name",
    },
  );
}

function noSuchLink(what: string, name: string): NotFoundError {
  return new NotFoundError(`${what}: there is no link named ${name}`);
}

function parseInterfaceAddress(text: string): InterfaceAddress {
  const [, address, prefix] = /^([^/]+)\/(\d{1,2})$/.exec(text) ?? [];
  if (address === undefined || Number(prefix) > 32) {
    throw new InvalidError(`"${text}" is not an address with prefix length like 172.20.100.1/24`);
  }
  return { address: parseAddress(address), prefix: Number(prefix) };
}

function formatInterfaceAddress(local: InterfaceAddress): string {
  return `${formatAddress(local.address)}/${local.prefix}`;
}
