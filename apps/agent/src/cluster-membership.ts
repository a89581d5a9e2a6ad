import { randomUUID } from "node:crypto";
import {
  InvalidError,
  initCluster,
  type Registration,
  Registration as RegistrationHandle,
  Registry,
  readCluster,
  type Store,
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
  const earlier = await state.readRegistration();
  if (earlier && earlier.node !== request.node) {
    throw new InvalidError(`${state.path} belongs to node ${earlier.node}, not ${request.node}`, {
      hint: "tear that node down first, or use another --state-dir",
    });
  }
  const identity: RegistrationFile = {
    ...earlier,
    node: request.node,
    uid: request.instanceID ?? earlier?.uid ?? randomUUID(),
    ...(request.instanceID === undefined ? {} : { instanceID: request.instanceID }),
    ...(request.zone === undefined ? {} : { zone: request.zone }),
    store: store.label,
  };
  await state.writeRegistration(identity);
  if (request.parentCIDR !== undefined) {
    await initCluster(
      store,
      { parentCIDR: request.parentCIDR, platform: request.platform },
      { signal: request.signal },
    );
  }
  const registration = await new Registry(store).register(
    {
      node: request.node,
      uid: identity.uid,
      subnet: request.subnet,
      instanceID: identity.instanceID,
      zone: identity.zone,
      platform: request.platform,
      subnetID: request.subnetID,
      eniIDs: request.eniIDs,
      leaseSource: request.leaseSource,
      agentVersion,
    },
    { signal: request.signal },
  );
  await state.writeRegistration({ ...identity, subnet: registration.subnet, epoch: registration.epoch });
  return registration;
}

/** The registration that this state directory recorded, unverified: its epoch decides at the first write (G3). */
export async function recordedRegistration(
  store: Store,
  file: RegistrationFile & { readonly subnet: string; readonly epoch: number },
  signal?: AbortSignal,
): Promise<Registration> {
  const { config } = await readCluster(store, { signal });
  return new RegistrationHandle(store, {
    node: file.node,
    uid: file.uid,
    subnet: file.subnet,
    epoch: file.epoch,
    config,
  });
}
