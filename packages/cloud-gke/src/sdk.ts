import { AsyncLocalStorage } from "node:async_hooks";
import { createRequire } from "node:module";
import { CocoonError, UnavailableError, unreachable } from "@cocoon-net/core";
import { refusal } from "./api-errors.ts";

/** What one call needs on its way through the vendor's client to the socket. */
export interface CallContext {
  /** Origin of the API. */
  readonly endpoint: string;
  /** Method and subject, for messages. */
  readonly what: string;
  /** The `Authorization` header. */
  readonly authorization: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  /** Fields of the body that are to be sent as empty lists. */
  readonly emptyLists: readonly string[];
}

type Request = Readonly<Record<string, unknown>>;
type UnaryCall = (request: Request, options: CallOptions) => Promise<readonly [unknown, ...unknown[]]>;
/** With `autoPaginate: false`: items, request of the next page, the whole answer. */
type ListCall = (
  request: Request,
  options: CallOptions & { readonly autoPaginate: false },
) => Promise<readonly [unknown, unknown, unknown]>;

interface CallOptions {
  /** Null: the client's own retries, 600 seconds of them, are off. */
  readonly retry: null;
}

interface Client {
  initialize(): Promise<unknown>;
}

interface OperationsClient extends Client {
  readonly wait: UnaryCall;
  readonly list: ListCall;
}

export interface GceClients {
  readonly instances: Client & {
    readonly get: UnaryCall;
    readonly updateNetworkInterface: UnaryCall;
    readonly innerApiCalls: { readonly aggregatedList?: ListCall };
  };
  readonly subnetworks: Client & { readonly get: UnaryCall; readonly patch: UnaryCall };
  readonly zoneOperations: OperationsClient;
  readonly regionOperations: OperationsClient;
}

export const once: CallOptions = { retry: null };

const contexts = new AsyncLocalStorage<CallContext>();
let clients: Promise<GceClients> | undefined;

/**
 * The vendor's clients (`@google-cloud/compute`), loaded at the first call and file by file: the package's index takes
 * 280 MB and 1.5 s. They see an `AuthClient` of ours, whose `fetch` is the one place where requests leave. That is
 * where an empty list is put back that the client's JSON leaves out, where deadlines and signals are enforced, and
 * where refusals become errors, before the client decodes them at 0.2 s each. It also means that the clients never
 * look for default credentials by themselves, which ends the process with an unhandled rejection where there are none.
 * All that differs from call to call comes with its context, so one set of them serves the whole process.
 */
export async function vendorClients(): Promise<GceClients> {
  clients ??= load();
  return await clients;
}

/** @throws {CocoonError} what {@link refusal} makes of an answer, or {@link UnavailableError} */
export async function callApi<T>(context: CallContext, run: (clients: GceClients) => Promise<T>): Promise<T> {
  const { signal, what } = context;
  signal?.throwIfAborted();
  const loaded = await vendorClients();
  try {
    return await contexts.run(context, () => run(loaded));
  } catch (error) {
    signal?.throwIfAborted();
    const cause = error instanceof Error ? error.cause : undefined;
    if (cause instanceof CocoonError) throw cause;
    if (error instanceof CocoonError) throw error;
    const reason = (error instanceof Error ? error.message : String(error)).slice(0, 200);
    throw new UnavailableError(`${what} failed: ${reason.replaceAll(/\s+/g, " ")}`, {
      cause: error,
      outcome: "unknown",
    });
  }
}

async function load(): Promise<GceClients> {
  const { InstancesClient, SubnetworksClient, ZoneOperationsClient, RegionOperationsClient } =
    clientClasses();
  const options = {
    authClient: { getRequestHeaders: async () => new Headers(), fetch: send },
  };
  const made = {
    instances: new InstancesClient(options),
    subnetworks: new SubnetworksClient(options),
    zoneOperations: new ZoneOperationsClient(options),
    regionOperations: new RegionOperationsClient(options),
  };
  for (const client of Object.values(made)) await client.initialize();
  return made;
}

/** @param url with the vendor's own origin */
async function send(url: string, init: RequestInit): Promise<Response> {
  const context = contexts.getStore();
  if (context === undefined) throw new Error(`a request to ${url} without a call`);
  const { endpoint, what, authorization, timeoutMs, signal, emptyLists } = context;
  const timeout = AbortSignal.timeout(timeoutMs);
  const both = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  const headers = new Headers(init.headers);
  headers.set("authorization", authorization);
  let body = typeof init.body === "string" ? init.body : null;
  if (body !== null && emptyLists.length > 0) body = withEmptyLists(body, emptyLists);
  let status: number;
  let text: string;
  let retryAfter: string | null;
  try {
    const target = url.replace(/^https?:\/\/[^/]+/, endpoint);
    const method = init.method ?? "GET";
    // A redirect would carry the token elsewhere.
    const response = await fetch(target, { method, headers, body, signal: both, redirect: "error" });
    text = await response.text();
    status = response.status;
    retryAfter = response.headers.get("retry-after");
  } catch (cause) {
    signal?.throwIfAborted();
    const afterMs = timeout.aborted ? timeoutMs : undefined;
    throw unreachable({ what, endpoint, setting: "COCOON_NET_GCE_ENDPOINT", afterMs }, cause);
  }
  if (status >= 200 && status < 300) return new Response(text, { status: 200 });
  throw refusal(what, { status, body: text, retryAfter });
}

type ClientClass<T> = new (options: unknown) => T;

interface ClientClasses {
  readonly InstancesClient: ClientClass<GceClients["instances"]>;
  readonly SubnetworksClient: ClientClass<GceClients["subnetworks"]>;
  readonly ZoneOperationsClient: ClientClass<OperationsClient>;
  readonly RegionOperationsClient: ClientClass<OperationsClient>;
}

/** Typed by hand: the vendor's declarations are 33 MB, and what comes back is checked in wire.ts anyway. */
function clientClasses(): ClientClasses {
  const require = createRequire(import.meta.url);
  const load = (file: string) => require(`@google-cloud/compute/build/src/v1/${file}.js`);
  return {
    ...load("instances_client"),
    ...load("subnetworks_client"),
    ...load("zone_operations_client"),
    ...load("region_operations_client"),
  };
}

/** proto3 JSON drops empty lists, and PATCH takes what is absent for unchanged: nothing could be cleared. */
function withEmptyLists(body: string, fields: readonly string[]): string {
  const lists = Object.fromEntries(fields.map((field) => [field, []]));
  return JSON.stringify({ ...JSON.parse(body), ...lists });
}
