import { NotFoundError, ThrottledError, UnavailableError } from "@cocoon-net/core";
import type { AccessTokens } from "./access-tokens.ts";
import { isAbout, TokenError } from "./api-errors.ts";
import type { InstanceRef } from "./instance-ref.ts";
import { type GceClients, once, Sdk } from "./sdk.ts";
import { Pauses, type Timing } from "./timing.ts";
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

export interface GceApiOptions {
  readonly endpoint: URL;
  readonly tokens: AccessTokens;
  readonly timing: Timing;
}

interface Call {
  /** Method and subject, for messages. */
  readonly what: string;
  /** Changes something: after a failure the caller looks before it asks again. */
  readonly changes?: boolean;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs?: number;
  readonly emptyLists?: readonly string[];
}

/** Where an operation is. */
export type OperationPlace = { readonly project: string } & (
  | { readonly zone: string }
  | { readonly region: string }
);

/** The API's methods that the driver uses. Every refusal is one of core's errors. */
export class GceApi {
  readonly timing: Timing;
  readonly #sdk: Sdk;
  readonly #endpoint: URL;
  readonly #tokens: AccessTokens;

  constructor(options: GceApiOptions) {
    this.timing = options.timing;
    this.#endpoint = options.endpoint;
    this.#tokens = options.tokens;
    this.#sdk = new Sdk(options.endpoint);
  }

  async close(): Promise<void> {
    await this.#sdk.close();
  }

  /**
   * Undefined when the API, asked for exactly this instance, says that there is none, or that the name is another
   * instance's by now (G12).
   *
   * @throws {NotFoundError} when it misses something else, e.g. the project
   */
  async getInstance(ref: InstanceRef, signal?: AbortSignal): Promise<Instance | undefined> {
    const { project, zone, name, id } = ref;
    let instance: Instance;
    try {
      // By name: a 404 then says that nothing of that name exists.
      const request = { project, zone, instance: name };
      instance = await this.#call({ what: `instances.get ${name}`, signal }, async ({ instances }) =>
        readInstance((await instances.get(request, { ...once }))[0]),
      );
    } catch (error) {
      if (isAbout(error, `projects/${project}/zones/${zone}/instances/${name}`)) return undefined;
      throw error;
    }
    return instance.id === id ? instance : undefined;
  }

  /** All instances of a project, in all zones. Complete or an error, never a part (G8). */
  async listInstances(project: string, signal?: AbortSignal): Promise<Instance[]> {
    const what = `instances.aggregatedList ${project}`;
    const found: Instance[] = [];
    await this.#pages(what, { project }, signal, async (clients, request) => {
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
    signal?: AbortSignal,
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
    const emptyLists = aliases.length === 0 ? ["aliasIpRanges"] : [];
    const what = `instances.updateNetworkInterface ${name}`;
    return await this.#call({ what, signal, emptyLists, changes: true }, async ({ instances }) =>
      startedOperation(await instances.updateNetworkInterface(request, { ...once })),
    );
  }

  async getSubnetwork(ref: SubnetworkRef, signal?: AbortSignal): Promise<Subnetwork> {
    const request = { project: ref.project, region: ref.region, subnetwork: ref.name };
    return await this.#call({ what: `subnetworks.get ${ref.name}`, signal }, async ({ subnetworks }) =>
      readSubnetwork((await subnetworks.get(request, { ...once }))[0]),
    );
  }

  /** Asks for this to be the complete list of secondary ranges. @throws {StaleError} */
  async setSecondaryRanges(
    subnetwork: Subnetwork,
    ranges: readonly SecondaryRange[],
    requestID: string,
    signal?: AbortSignal,
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
    const what = `subnetworks.patch ${name}`;
    return await this.#call({ what, signal, changes: true }, async ({ subnetworks }) =>
      startedOperation(await subnetworks.patch(request, { ...once })),
    );
  }

  /**
   * Waits until it is DONE; look at its errors then. Undefined when the API does not know it (any more): then only the
   * resource itself can tell.
   */
  async waitFor(place: OperationPlace, name: string, signal?: AbortSignal): Promise<Operation | undefined> {
    const pauses = new Pauses(this.timing, this.timing.changeMs, signal);
    const call = { what: `operations.wait ${name}`, signal, timeoutMs: this.timing.waitRequestMs };
    for (;;) {
      let operation: Operation;
      try {
        // It may come back early with an operation that still runs.
        operation = await this.#call(call, async (clients) => {
          const client = "zone" in place ? clients.zoneOperations : clients.regionOperations;
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

  /** Operations on an instance that are not DONE yet. */
  async pendingOperations(ref: InstanceRef, signal?: AbortSignal): Promise<Operation[]> {
    const { project, zone, id } = ref;
    const found: Operation[] = [];
    const request = { project, zone, filter: 'status != "DONE"' };
    await this.#pages(`zoneOperations.list ${zone}`, request, signal, async ({ zoneOperations }, page) => {
      const [items, next] = await zoneOperations.list(page, { ...once, autoPaginate: false });
      if (!Array.isArray(items)) throw incomplete("zoneOperations.list", zone);
      found.push(...items.map(readOperation));
      return next;
    });
    return found.filter((operation) => !operation.done && operation.targetID === id);
  }

  async #pages(
    what: string,
    first: Readonly<Record<string, unknown>>,
    signal: AbortSignal | undefined,
    read: (clients: GceClients, request: Readonly<Record<string, unknown>>) => Promise<unknown>,
  ): Promise<void> {
    const tokens = new Set<unknown>();
    let request: Readonly<Record<string, unknown>> = { ...first, maxResults: 500 };
    for (;;) {
      const page = request;
      const next = await this.#call({ what, signal }, (clients) => read(clients, page));
      if (!isRecord(next)) return;
      if (tokens.has(next.pageToken)) throw incomplete(what, "its pages repeat without an end");
      tokens.add(next.pageToken);
      request = next;
    }
  }

  /**
   * Tries again, for {@link Timing.retryMs} altogether, on throttling, and after an outage where nothing is changed.
   */
  async #call<T>(call: Call, run: (clients: GceClients) => Promise<T>): Promise<T> {
    const { what, signal, changes, timeoutMs = this.timing.requestMs, emptyLists = [] } = call;
    const pauses = new Pauses(this.timing, this.timing.retryMs, signal);
    let renewed = false;
    for (;;) {
      const authorization = await this.#tokens.header(this.#endpoint.origin, signal);
      try {
        return await this.#sdk.call({ what, authorization, timeoutMs, signal, emptyLists }, run);
      } catch (error) {
        if (error instanceof TokenError && !renewed) {
          this.#tokens.forget();
          renewed = true;
          continue;
        }
        const again =
          error instanceof ThrottledError
            ? await pauses.nextThrottled(error.retryAfterMs)
            : error instanceof UnavailableError && !changes && (await pauses.next());
        if (!again) throw error;
      }
    }
  }
}

/** The client wraps it: `{latestResponse, done, name, …}`. */
function startedOperation([started]: readonly unknown[]): Operation {
  return readOperation(recordOf(started, "an operation").latestResponse);
}

function incomplete(what: string, where: string): UnavailableError {
  return new UnavailableError(`${what} does not show everything: ${where}`, { outcome: "none" });
}
