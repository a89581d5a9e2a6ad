import {
  type Compare,
  decode,
  type Entry,
  type InstanceIdentity,
  keys,
  type LeaseRecord,
  leaseSchema,
  type MovedRecord,
  movedSchema,
  type NodeRecord,
  type NodeResources,
  nodeSchema,
  type Revision,
  type Store,
} from "@cocoon-net/core";
import { resourcesOf } from "./intent.ts";
import { type MoveIntent, moveIntentSchema } from "./move-intent.ts";
import { isInBlock, type MovedAddress, movedOfNode, withMoved } from "./moved-addresses.ts";

/** One of the two nodes of a move. */
export interface MoveSide {
  readonly node: string;
  readonly uid: string;
  /**
   * Undefined when the node of that uid owns no subnet any more: what it had was fenced, or given back; unless the record
   * says that its instance may have the address still.
   */
  readonly owner: { readonly record: NodeRecord; readonly entry: Entry } | undefined;
  /** Whoever's `subnets/{node}` that is. */
  readonly claim: Entry | undefined;
  readonly alive: boolean;
  readonly resources: NodeResources;
}

/** Everything a step of a move decides upon, as of one revision. */
export interface MoveFacts {
  readonly intent: MoveIntent;
  readonly revision: Revision;
  /** Undefined when the record is not this move's. */
  readonly moved: { readonly record: MovedRecord; readonly entry: Entry } | undefined;
  readonly lease: { readonly record: LeaseRecord; readonly entry: Entry } | undefined;
  readonly from: MoveSide;
  readonly to: MoveSide;
}

/** Undefined when the intent is gone. */
export async function readMoveFacts(
  store: Store,
  id: string,
  { ip, from, fromUID, to, toUID }: MoveIntent,
  signal: AbortSignal,
): Promise<MoveFacts | undefined> {
  const names = [
    keys.intent(id),
    keys.moved(ip),
    keys.pool(ip),
    ...[from, to].flatMap((node) => [keys.subnet(node), keys.node(node), keys.alive(node)]),
  ];
  const { reads } = await store.txn({ then: names.map((name) => ({ get: name })) }, { signal });
  const [intent, moved, lease, ...sides] = reads;
  if (!intent) return undefined;
  const record = moved && decode(movedSchema, moved);
  return {
    intent: decode(moveIntentSchema, intent),
    revision: intent.modRevision,
    moved: record?.move?.intent === id && moved ? { record, entry: moved } : undefined,
    lease: lease && { record: decode(leaseSchema, lease), entry: lease },
    from: sideOf(from, fromUID, sides.slice(0, 3), record?.unfenced),
    to: sideOf(to, toUID, sides.slice(3), record?.unfenced),
  };
}

function sideOf(
  node: string,
  uid: string,
  reads: readonly (Entry | undefined)[],
  unfenced: string | undefined,
): MoveSide {
  const [claim, entry, alive] = reads;
  const record = entry && decode(nodeSchema, entry);
  // G12
  if (!claim || !entry || record?.uid !== uid) {
    // Where its claim has ended without a reclaim, it may have the address still.
    const instanceID = unfenced ?? (record?.uid === uid ? record.instanceID : undefined);
    // By a subnet that the name has, or had, the cloud is told where to look.
    const where = record?.subnetID === undefined ? {} : { subnetID: record.subnetID };
    const resources = { node, instanceID, subnet: "0.0.0.0/32", ...where, eniIDs: [] };
    return { node, uid, owner: undefined, claim, alive: false, resources };
  }
  return {
    node,
    uid,
    owner: { record, entry },
    claim,
    alive: alive !== undefined,
    resources: resourcesOf(node, record),
  };
}

/** What must hold for a node to own its subnet by the claim that was read, and to be alive; or to be gone still. */
export function stillThere({ node, owner, claim }: MoveSide): Compare[] {
  const key = keys.subnet(node);
  return [
    claim ? { key, modRevision: claim.modRevision } : { key, exists: false },
    ...(owner ? [{ key: keys.alive(node), exists: true }] : []),
  ];
}

/** What a node has at the cloud, as a move of this address sees it. */
export function movingResources(side: MoveSide, ip: string, all: readonly MovedAddress[]): NodeResources {
  const subnet = side.resources.subnet;
  const { node, uid, resources } = side;
  const moved = movedOfNode(all, { node, uid, instanceID: resources.instanceID }, subnet);
  const away = moved.away.filter((address) => address !== ip);
  return withMoved(side.resources, {
    away,
    in: isInBlock(subnet, ip) ? moved.in : [...new Set([...moved.in, ip])],
  });
}

export function identityOf({ owner }: MoveSide): InstanceIdentity {
  const { instanceID = "", zone = "", region = "", network = "" } = owner?.record ?? {};
  return { instanceID, zone, region, network };
}
