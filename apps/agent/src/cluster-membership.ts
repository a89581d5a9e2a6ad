import { randomUUID } from "node:crypto";
import {
  CocoonError,
  decode,
  InvalidError,
  initCluster,
  keys,
  type NodeDescription,
  nodeSchema,
  type RegisterRequest,
  type Registration,
  Registration as RegistrationHandle,
  Registry,
  readCluster,
  type Store,
} from "@cocoon-net/core";
import { movedPathOf } from "./moved-file.ts";
import type { RegistrationFile, StateDirectory } from "./state-directory.ts";
import { agentVersion } from "./version.ts";

export interface JoinRequest {
  readonly node: string;
  readonly subnet?: string | undefined;
  readonly platform: string;
  readonly instanceID?: string | undefined;
  readonly zone?: string | undefined;
  /** Creates the cluster when there is none yet. */
  readonly parentCIDR?: string | undefined;
  readonly leaseSource?: string | undefined;
  readonly subnetID?: string | undefined;
  readonly eniIDs?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told when the store is recovering from a loss, and this node has to wait for its subnet. */
  readonly onWait?: ((message: string) => void) | undefined;
}

/**
 * Registers this node, as the same node on every repeat: its uid is on disk before the store hears of it (G12).
 * @throws {InvalidError} when the state directory belongs to another node.
 */
export async function joinCluster(
  store: Store,
  state: StateDirectory,
  request: JoinRequest,
): Promise<Registration> {
  const { signal } = request;
  const earlier = await state.readRegistration();
  if (earlier && earlier.node !== request.node) {
    throw new InvalidError(`${state.path} belongs to node ${earlier.node}, not ${request.node}`, {
      hint: "tear that node down first, or use another --state-dir",
    });
  }
  const clusterUID = earlier?.clusterUID;
  if (request.parentCIDR !== undefined) {
    const init = { parentCIDR: request.parentCIDR, platform: request.platform, clusterUID };
    await initCluster(store, init, { signal });
  } else {
    await readCluster(store, { clusterUID, signal });
  }
  const instanceID = request.instanceID ?? earlier?.instanceID;
  const zone = request.zone ?? earlier?.zone;
  const identity: RegistrationFile = {
    node: request.node,
    uid: request.instanceID ?? earlier?.uid ?? randomUUID(),
    ...(instanceID === undefined ? {} : { instanceID }),
    ...(zone === undefined ? {} : { zone }),
    store: store.label,
  };
  await state.writeRegistration({ ...earlier, ...identity });
  const registering = new Registry(store, { onChanged: rememberIn(state) }).register(
    {
      node: request.node,
      uid: identity.uid,
      subnet: request.subnet,
      instanceID,
      zone,
      platform: request.platform,
      subnetID: request.subnetID,
      eniIDs: request.eniIDs,
      leaseSource: request.leaseSource,
      agentVersion,
      clusterUID,
      former: earlier?.uid === identity.uid ? formerOf(earlier) : undefined,
    },
    { signal, onWait: request.onWait },
  );
  const registration = await registering.catch(async (error: unknown) => {
    // A refusal leaves nothing behind. Where the answer is missing the node may be registered: its uid has to stay.
    if (error instanceof CocoonError && !error.retryable) {
      if (earlier) await state.writeRegistration(earlier);
      else await state.remove(state.registrationPath);
    }
    throw error;
  });
  const { subnet, epoch, incarnation, config } = registration;
  // What was moved to it before its block was taken is not its own any more, whatever block it has got now.
  if ((await state.readRegistration())?.epoch !== epoch) await state.remove(movedPathOf(state));
  await state.writeRegistration({
    ...identity,
    subnet,
    epoch,
    ...(incarnation === undefined ? {} : { incarnation }),
    clusterUID: config.clusterUID,
    parentCIDR: config.parentCIDR,
    leaseMs: config.leaseMs,
  });
  return registration;
}

export interface RecordedOptions {
  readonly signal?: AbortSignal | undefined;
  /** What the node's record shall say, beside what the file says, if the store has lost it. */
  readonly about?: Partial<NodeDescription>;
  readonly onChanged?: (registration: Registration) => Promise<void>;
}

/**
 * The registration that this state directory recorded, unverified: its epoch decides at the first write (G3).
 * @throws {NotFoundError} when the store holds no cluster, {@link ConflictError} when it holds another one: neither
 * says anything about this node's subnet.
 */
export async function recordedRegistration(
  store: Store,
  file: RegistrationFile & { readonly subnet: string; readonly epoch: number },
  options: RecordedOptions = {},
): Promise<Registration> {
  const { signal, about, onChanged } = options;
  const { node, uid, subnet, epoch, incarnation, clusterUID, instanceID, zone, leaseSource } = file;
  const { config } = await readCluster(store, { clusterUID, signal });
  return new RegistrationHandle(store, {
    ...{ node, uid, subnet, epoch, incarnation, config, onChanged },
    about: { instanceID, zone, leaseSource, agentVersion, ...about },
  });
}

/** Keeps what a registration is known by on disk: a node that starts again must know it. */
export function rememberIn(state: StateDirectory): (registration: Registration) => Promise<void> {
  return async ({ epoch, incarnation }) => {
    const file = await state.readRegistration();
    if (!file) return;
    await state.writeRegistration({ ...file, epoch, ...(incarnation === undefined ? {} : { incarnation }) });
  };
}

/** What the node owns by its own record; nothing once that was lost (G3). */
function formerOf({ subnet, epoch, incarnation, lostAt }: RegistrationFile): RegisterRequest["former"] {
  if (subnet === undefined || epoch === undefined || lostAt !== undefined) return undefined;
  return { subnet, epoch, incarnation };
}

/**
 * What the store says this node owns, for a node whose own record is incomplete: it crashed after registering.
 * Undefined when it owns nothing there (G12: the uid decides, not the name).
 */
export async function storedRegistration(
  store: Store,
  file: RegistrationFile,
  signal?: AbortSignal,
): Promise<Registration | undefined> {
  const { reads } = await store.txn(
    { then: [{ get: keys.subnet(file.node) }, { get: keys.node(file.node) }] },
    { signal },
  );
  const [owned, record] = reads;
  if (!owned || !record || decode(nodeSchema, record).uid !== file.uid) return undefined;
  const subnet = JSON.parse(owned.value) as string;
  return recordedRegistration(store, { ...file, subnet, epoch: owned.modRevision }, { signal });
}
