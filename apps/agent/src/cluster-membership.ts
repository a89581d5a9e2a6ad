import { randomUUID } from "node:crypto";
import {
  CocoonError,
  ConflictError,
  decode,
  InvalidError,
  initCluster,
  keys,
  nodeSchema,
  type Registration,
  Registration as RegistrationHandle,
  Registry,
  readCluster,
  type Store,
  standingEpoch,
} from "@cocoon-net/core";
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
  if (request.parentCIDR !== undefined) {
    await initCluster(store, { parentCIDR: request.parentCIDR, platform: request.platform }, { signal });
  } else {
    await readCluster(store, { signal });
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
  const registering = new Registry(store).register(
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
    },
    { signal },
  );
  const registration = await registering.catch(async (error: unknown) => {
    // A refusal leaves nothing behind. Where the answer is missing the node may be registered: its uid has to stay.
    if (error instanceof CocoonError && !error.retryable) {
      if (earlier) await state.writeRegistration(earlier);
      else await state.remove(state.registrationPath);
    }
    throw error;
  });
  const { subnet, epoch, config } = registration;
  await state.writeRegistration({
    ...identity,
    subnet,
    epoch,
    clusterUID: config.clusterUID,
    leaseMs: config.leaseMs,
  });
  return registration;
}

/**
 * The registration that this state directory recorded, unverified: its epoch decides at the first write (G3). In a
 * store that the cluster was copied to, the epoch is the one that the copy gave it.
 * @throws {NotFoundError} when the store holds no cluster, {@link ConflictError} when it holds another one: neither
 * says anything about this node's subnet.
 */
export async function recordedRegistration(
  store: Store,
  file: RegistrationFile & { readonly subnet: string; readonly epoch: number },
  signal?: AbortSignal,
): Promise<Registration> {
  const { config } = await readCluster(store, { signal });
  if (file.clusterUID !== undefined && file.clusterUID !== config.clusterUID) {
    throw new ConflictError(
      `${store.label} holds cluster ${config.clusterUID}, but node ${file.node} joined ${file.clusterUID}`,
      { hint: "use that cluster's store URL and prefix, or run `cocoon-net teardown` and join anew" },
    );
  }
  const { node, uid, subnet } = file;
  const epoch = await standingEpoch(store, file, { signal });
  return new RegistrationHandle(store, { node, uid, subnet, epoch, config });
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
  return recordedRegistration(store, { ...file, subnet, epoch: owned.modRevision }, signal);
}
