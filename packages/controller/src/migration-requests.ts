import {
  ConflictError,
  contains,
  decode,
  type Entry,
  encode,
  InvalidError,
  keys,
  leaseSchema,
  type MovedRecord,
  movedSchema,
  type NodeRecord,
  NotFoundError,
  nodeSchema,
  parseAddress,
  parseCidr,
  prefixes,
  readAll,
  requireCluster,
  type Store,
} from "@cocoon-net/core";
import { newBase, newIntentID } from "./intent.ts";
import { type MoveIntent, moveIntentSchema } from "./move-intent.ts";
import { type OperatorOptions, readAndWrite } from "./operator-write.ts";

export type MigrationRequest = { readonly to: string } & ({ readonly ip: string } | { readonly vm: string });

export interface RequestedMigration {
  /** `intents/{intent}` exists while it runs. */
  readonly intent: string;
  readonly ip: string;
  readonly from: string;
  readonly to: string;
}

/**
 * Moves a guest's address to another node. Both agents, and then the cloud, have to agree; what goes wrong before the
 * owner is swapped leaves everything as it was.
 * @throws {NotFoundError} for a guest or node that is not there; {@link ConflictError} where it cannot be done now;
 * {@link InvalidError} where it never can
 */
export function requestMigration(
  store: Store,
  request: MigrationRequest,
  options: OperatorOptions = {},
): Promise<RequestedMigration> {
  const { now = () => new Date(), ...call } = options;
  const { to } = request;
  return readAndWrite(
    async () => {
      if (!store.capabilities.trustworthy) {
        throw new ConflictError(`${store.label} may lose acknowledged writes: no address is moved`, {
          hint: "make the store durable (`docs/stores.md`)",
        });
      }
      const ip = "ip" in request ? request.ip : await addressOf(store, request.vm, call);
      const about = [keys.config, keys.pool(ip), keys.moved(ip)];
      const { reads } = await store.txn({ then: about.map((key) => ({ get: key })) }, call);
      const [config, lease, moved] = reads;
      requireCluster(config, store.label, undefined);
      if (!lease) {
        throw new NotFoundError(`no guest has ${ip}`, { hint: "`cocoon-net cluster leases` lists them" });
      }
      const { node: from, mac, vmID } = decode(leaseSchema, lease);
      const earlier = moved && decode(movedSchema, moved);
      if (earlier?.move) {
        throw new ConflictError(`${ip} is being moved to ${earlier.move.to || "nobody"} already`, {
          hint: "wait for that, or cancel it",
        });
      }
      if (from === to) throw new ConflictError(`${ip} is at ${to} already`);
      const source = await nodeAt(store, from, call);
      const target = await nodeAt(store, to, call);
      refuseUnfit(source, ["ready", "draining"]);
      refuseUnfit(target, ["ready"]);
      refuseStranger(ip, from, source, earlier);
      const { platform = "", instanceID } = target.record;
      if (instanceID === undefined || source.record.instanceID === undefined) {
        throw new InvalidError(
          `no cloud knows ${instanceID === undefined ? to : from}: it has no instance id`,
        );
      }
      if (platform !== (source.record.platform ?? "")) {
        throw new InvalidError(`${from} and ${to} are on different platforms`);
      }
      const id = newIntentID("move", ip);
      const intent: MoveIntent = {
        kind: "move",
        purpose: "migrate",
        ip,
        mac,
        ...(vmID === undefined ? {} : { vmID }),
        from,
        fromUID: source.record.uid,
        to,
        toUID: target.record.uid,
        platform,
        isFirst: earlier === undefined,
        step: "preparing",
        cloudSteps: [],
        undoSteps: [],
        ...newBase(now().toISOString()),
      };
      const record: MovedRecord = {
        ...(earlier ?? {
          home: from,
          subnet: source.record.subnet,
          node: from,
          uid: source.record.uid,
          seq: 0,
        }),
        mac,
        ...(vmID === undefined ? {} : { vmID }),
        move: { intent: id, from, to, toUID: target.record.uid, ready: [] },
      };
      return {
        result: { intent: id, ip, from, to },
        write: {
          if: [
            same(lease),
            moved ? same(moved) : { key: keys.moved(ip), exists: false },
            ...source.conditions,
            ...target.conditions,
          ],
          then: [
            { put: keys.moved(ip), value: encode(record) },
            { put: keys.intent(id), value: encode(intent) },
          ],
          event: {
            type: "move-requested",
            reason: "operator",
            message: `${ip} is to move from ${from} to ${to}`,
          },
          about: { ip, node: from, intent: id, ...(vmID === undefined ? {} : { vmID }) },
          after: lease.modRevision,
        },
      };
    },
    store,
    `moving to ${to}`,
    options,
  );
}

/** Stops a move that has not swapped the owner yet. False when there is none to stop. */
export function cancelMigration(store: Store, ip: string, options: OperatorOptions = {}): Promise<boolean> {
  const { now: _, ...call } = options;
  return readAndWrite(
    async () => {
      const { entry: moved } = await store.get(keys.moved(ip), call);
      const move = moved && decode(movedSchema, moved).move;
      const entry = move && (await store.get(keys.intent(move.intent), call)).entry;
      if (!entry) return { result: false, write: undefined };
      const intent = decode(moveIntentSchema, entry);
      if (intent.step !== "preparing" && intent.step !== "moving") return { result: false, write: undefined };
      const stopped = "cancelled: an operator has stopped it";
      return {
        result: true,
        write: {
          if: [same(entry)],
          then: [{ put: entry.key, value: encode({ ...intent, stopped }) }],
          event: {
            type: "move-undoing",
            reason: "cancelled",
            message: `an operator stops the move of ${ip}`,
          },
          about: { ip, node: intent.from, intent: move.intent },
          after: entry.modRevision,
        },
      };
    },
    store,
    `stopping the move of ${ip}`,
    options,
  );
}

interface NodeAt {
  readonly node: string;
  readonly record: NodeRecord;
  readonly alive: boolean;
  readonly conditions: readonly { readonly key: string; readonly modRevision: number }[];
}

async function nodeAt(store: Store, node: string, call: OperatorOptions): Promise<NodeAt> {
  const names = [keys.subnet(node), keys.node(node), keys.alive(node)];
  const { reads } = await store.txn({ then: names.map((key) => ({ get: key })) }, call);
  const [claim, entry, alive] = reads;
  if (!claim || !entry) {
    throw new NotFoundError(`node ${node} owns no subnet in ${store.label}`, {
      hint: "`cocoon-net cluster nodes` lists those that do",
    });
  }
  const conditions = [claim, entry, ...(alive ? [alive] : [])].map(same);
  return { node, record: decode(nodeSchema, entry), alive: alive !== undefined, conditions };
}

function refuseUnfit({ node, record, alive }: NodeAt, fit: readonly NodeRecord["status"][]): void {
  if (!alive) throw new ConflictError(`node ${node} is silent`, { hint: "wait until it speaks again" });
  if (fit.includes(record.status)) return;
  throw new ConflictError(`node ${node} is ${record.status}`, { hint: "choose another" });
}

/** G2: only the owner of the subnet, or the node that it was moved to, can have a guest there. */
function refuseStranger(
  ip: string,
  from: string,
  { record }: NodeAt,
  earlier: MovedRecord | undefined,
): void {
  const isItsOwn = contains(parseCidr(record.subnet), parseAddress(ip));
  if (earlier ? earlier.node === from && earlier.uid === record.uid : isItsOwn) return;
  throw new ConflictError(`${from} has a guest on record with ${ip}, which is not an address of its own`, {
    hint: "run `cocoon-net cluster check`",
  });
}

async function addressOf(store: Store, vm: string, call: OperatorOptions): Promise<string> {
  const isOf = (entry: Entry): string | undefined =>
    entry.value.includes(JSON.stringify(vm)) && decode(leaseSchema, entry).vmID === vm
      ? entry.key.slice(prefixes.pool.length)
      : undefined;
  const { items } = await readAll(store, prefixes.pool, isOf, call);
  const found = items.filter((ip) => ip !== undefined);
  const [ip, another] = found;
  if (ip === undefined) {
    throw new NotFoundError(`no guest on record is VM ${vm}`, {
      hint: "name the guest by its address, which `cocoon-net cluster leases` lists",
    });
  }
  if (another === undefined) return ip;
  throw new ConflictError(`VM ${vm} has several addresses: ${found.join(", ")}`, {
    hint: "name one of them",
  });
}

function same({ key, modRevision }: Entry): { readonly key: string; readonly modRevision: number } {
  return { key, modRevision };
}
