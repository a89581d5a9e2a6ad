import { NotFoundError, Pauses, UnavailableError } from "@cocoon-net/core";
import { isAbout } from "./api-errors.ts";
import type { Call, CallScope, GceCalls } from "./calls.ts";
import { type InstanceRef, regionOf } from "./instance-ref.ts";
import { type GceClients, once } from "./sdk.ts";
import { retryPauses, type Timing } from "./timing.ts";
import {
  type AliasRange,
  type Instance,
  isRecord,
  listOf,
  type Operation,
  readInstance,
  readOperation,
  readSubnetwork,
  recordOf,
  type SecondaryRange,
  type Subnetwork,
  type SubnetworkRef,
} from "./wire.ts";

/** Where an operation is. */
export type OperationPlace = { readonly project: string } & (
  | { readonly zone: string }
  | { readonly region: string }
);

/** The API's methods that the driver uses. Every refusal is one of core's errors. */
export class GceApi {
  readonly #calls: GceCalls;
  readonly #scope: CallScope;

  constructor(calls: GceCalls, scope: CallScope) {
    this.#calls = calls;
    this.#scope = scope;
  }

  get timing(): Timing {
    return this.#calls.timing;
  }

  get signal(): AbortSignal | undefined {
    return this.#scope.signal;
  }

  /**
   * Undefined when the API, asked for exactly this instance, says that there is none, or that the name is another
   * instance's by now (G12).
   *
   * @throws {NotFoundError} when it misses something else, e.g. the project
   */
  async getInstance(ref: InstanceRef): Promise<Instance | undefined> {
    const { project, zone, name, id } = ref;
    const call = { action: "instances.get", subject: name, project, region: regionOf(zone) };
    let instance: Instance;
    try {
      // By name: a 404 then says that nothing of that name exists.
      const request = { project, zone, instance: name };
      instance = await this.#make(call, async ({ instances }) =>
        readInstance((await instances.get(request, { ...once }))[0]),
      );
    } catch (error) {
      if (isAbout(error, `projects/${project}/zones/${zone}/instances/${name}`)) return undefined;
      throw error;
    }
    return instance.id === id ? instance : undefined;
  }

  /** All instances of a project, in all zones. Complete or an error, never a part (G8). */
  async listInstances(project: string): Promise<Instance[]> {
    const call = { action: "instances.aggregatedList", subject: project, project, region: "global" };
    const what = `${call.action} ${project}`;
    const found: Instance[] = [];
    await this.#pages(call, { project }, async (clients, request) => {
      // The client's own iterator gives up without a word after ten empty pages.
      const list = clients.instances.innerApiCalls.aggregatedList;
      if (list === undefined) throw new Error("this version of the client has no aggregatedList");
      const [, next, page] = await list(request, { ...once, autoPaginate: false });
      const answer = recordOf(page, "a list of instances");
      const unreachable = listOf(answer, "unreachables");
      if (unreachable.length > 0) throw incomplete(what, unreachable.join(", "));
      for (const [scope, item] of Object.entries(recordOf(answer.items ?? {}, "a list of instances"))) {
        const list = recordOf(item, "a list of instances");
        const warning = isRecord(list.warning) ? list.warning.code : undefined;
        if (warning !== undefined && warning !== "NO_RESULTS_ON_PAGE") throw incomplete(what, scope);
        found.push(...listOf(list, "instances").map(readInstance));
      }
      return next;
    });
    return found;
  }

  /**
   * Asks for this to be the complete list of the interface's aliases. By the instance's numeric id, so that a new
   * instance of the same name is never changed (G12).
   *
   * @throws {StaleError} when the fingerprint is not the present one
   */
  async setAliases(
    ref: InstanceRef,
    nic: { readonly name: string; readonly fingerprint: string },
    aliases: readonly AliasRange[],
    requestID: string,
  ): Promise<Operation> {
    const { project, zone, name, id } = ref;
    const request = {
      project,
      zone,
      instance: id,
      networkInterface: nic.name,
      requestId: requestID,
      // Nothing else of the interface: the API refuses what it does not let one update.
      networkInterfaceResource: {
        fingerprint: nic.fingerprint,
        aliasIpRanges: aliases.map(({ cidr, rangeName }) => ({
          ipCidrRange: cidr,
          ...(rangeName === undefined ? {} : { subnetworkRangeName: rangeName }),
        })),
      },
    };
    const call: Call = {
      action: "instances.updateNetworkInterface",
      subject: name,
      project,
      region: regionOf(zone),
      changes: true,
      emptyLists: aliases.length === 0 ? ["aliasIpRanges"] : [],
    };
    return await this.#make(call, async ({ instances }) =>
      startedOperation(await instances.updateNetworkInterface(request, { ...once })),
    );
  }

  async getSubnetwork({ project, region, name }: SubnetworkRef): Promise<Subnetwork> {
    const request = { project, region, subnetwork: name };
    const call = { action: "subnetworks.get", subject: name, project, region };
    return await this.#make(call, async ({ subnetworks }) =>
      readSubnetwork((await subnetworks.get(request, { ...once }))[0]),
    );
  }

  /** Asks for this to be the complete list of secondary ranges. @throws {StaleError} */
  async setSecondaryRanges(
    subnetwork: Subnetwork,
    ranges: readonly SecondaryRange[],
    requestID: string,
  ): Promise<Operation> {
    const { project, region, name } = subnetwork.ref;
    const request = {
      project,
      region,
      subnetwork: name,
      requestId: requestID,
      subnetworkResource: {
        fingerprint: subnetwork.fingerprint,
        secondaryIpRanges: ranges.map(({ rangeName, cidr, reservedInternalRange }) => ({
          rangeName,
          ipCidrRange: cidr,
          ...(reservedInternalRange === undefined ? {} : { reservedInternalRange }),
        })),
      },
    };
    const call = { action: "subnetworks.patch", subject: name, project, region, changes: true };
    return await this.#make(call, async ({ subnetworks }) =>
      startedOperation(await subnetworks.patch(request, { ...once })),
    );
  }

  /**
   * Waits until it is DONE; look at its errors then. Undefined when the API does not know it (any more): then only the
   * resource itself can tell.
   */
  async waitFor(place: OperationPlace, name: string): Promise<Operation | undefined> {
    const { timing, signal } = this;
    const pauses = new Pauses(retryPauses(timing, timing.changeMs, signal));
    const isZonal = "zone" in place;
    const call: Call = {
      action: isZonal ? "zoneOperations.wait" : "regionOperations.wait",
      subject: name,
      project: place.project,
      region: isZonal ? regionOf(place.zone) : place.region,
      timeoutMs: timing.waitRequestMs,
    };
    for (;;) {
      let operation: Operation;
      try {
        // It may come back early with an operation that still runs.
        operation = await this.#make(call, async (clients) => {
          const client = isZonal ? clients.zoneOperations : clients.regionOperations;
          return readOperation((await client.wait({ ...place, operation: name }, { ...once }))[0]);
        });
      } catch (error) {
        if (error instanceof NotFoundError) return undefined;
        throw error;
      }
      if (operation.done) return operation;
      if (!(await pauses.next())) {
        throw new UnavailableError(`the operation ${name} does not end`, {
          outcome: "unknown",
          hint: "run the command again later",
        });
      }
    }
  }

  /** Operations on these instances of a zone that are not DONE yet. */
  async pendingOperations(
    { project, zone }: { readonly project: string; readonly zone: string },
    ids: ReadonlySet<string>,
  ): Promise<Operation[]> {
    const found: Operation[] = [];
    const call = { action: "zoneOperations.list", subject: zone, project, region: regionOf(zone) };
    const request = { project, zone, filter: 'status != "DONE"' };
    await this.#pages(call, request, async ({ zoneOperations }, page) => {
      const [items, next] = await zoneOperations.list(page, { ...once, autoPaginate: false });
      if (!Array.isArray(items)) throw incomplete("zoneOperations.list", zone);
      found.push(...items.map(readOperation));
      return next;
    });
    return found.filter(({ done, targetID }) => !done && targetID !== undefined && ids.has(targetID));
  }

  async #pages(
    call: Call,
    first: Readonly<Record<string, unknown>>,
    read: (clients: GceClients, request: Readonly<Record<string, unknown>>) => Promise<unknown>,
  ): Promise<void> {
    const tokens = new Set<unknown>();
    let request: Readonly<Record<string, unknown>> = { ...first, maxResults: 500 };
    for (;;) {
      const page = request;
      const next = await this.#make(call, (clients) => read(clients, page));
      if (!isRecord(next)) return;
      if (tokens.has(next.pageToken)) {
        throw incomplete(`${call.action} ${call.subject}`, "its pages repeat without an end");
      }
      tokens.add(next.pageToken);
      request = next;
    }
  }

  async #make<T>(call: Call, run: (clients: GceClients) => Promise<T>): Promise<T> {
    return await this.#calls.make(call, this.#scope, run);
  }
}

/** The client wraps it: `{latestResponse, done, name, …}`. */
function startedOperation([started]: readonly unknown[]): Operation {
  return readOperation(recordOf(started, "an operation").latestResponse);
}

function incomplete(what: string, where: string): UnavailableError {
  return new UnavailableError(`${what} does not show everything: ${where}`, { outcome: "none" });
}
