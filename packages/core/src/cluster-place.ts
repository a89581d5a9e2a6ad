import { ConflictError, NotFoundError } from "./errors.ts";
import { decode, encode, nodeSchema } from "./model.ts";
import * as z from "./record-schema.ts";
import type { Entry, Revision } from "./store.ts";

/**
 * Where a cluster is in use. Its `config` exists once per store it was ever in, and `schema` in it says which of
 * them counts: `1` here, `"incoming"` while a copy is being made into this store, `"moved"` after a copy was made
 * out of it. A copy writes "moved" before it writes `1` elsewhere, so at any time at most one store hands subnets
 * out or takes them back (G1): registrations compare `config` in their transaction, controllers do not act without
 * one that they can read.
 */
export type PlaceState = "here" | "incoming" | "moved";

export interface ClusterPlace {
  readonly state: PlaceState;
  readonly clusterUID: string;
  /** The copy that brought the cluster here, or took it away. */
  readonly transfer: Transfer | undefined;
}

export interface Transfer {
  /** The same on both sides, also when a copy that was stopped is run again. */
  readonly id: string;
  /** The other store, without secrets. */
  readonly store: string;
  readonly time: string;
}

const transferSchema: z.RecordSchema<Transfer> = z.looseObject({
  id: z.string(),
  store: z.string(),
  time: z.string(),
});

const placeSchema = z.looseObject({
  clusterUID: z.string(),
  schema: z.union([z.literal(1), z.literal("incoming"), z.literal("moved")]),
  copied: z.exactOptional(transferSchema),
  moved: z.exactOptional(transferSchema),
});

/** What a store's `config` says about where the cluster is. @throws {CorruptError} */
export function placeOf(config: Pick<Entry, "key" | "value">): ClusterPlace {
  const { schema, clusterUID, copied, moved } = decode(placeSchema, config);
  return {
    state: schema === 1 ? "here" : schema,
    clusterUID,
    transfer: schema === "moved" ? moved : copied,
  };
}

/**
 * The `config` that is there. A store that has lost it, or holds another cluster than the caller's, says nothing about
 * who owns what (G8). @throws {NotFoundError} for a caller of no cluster, {@link ConflictError} for one of `clusterUID`
 */
export function requireCluster(
  config: Entry | undefined,
  label: string,
  clusterUID: string | undefined,
): Entry {
  if (config === undefined && clusterUID === undefined) {
    throw new NotFoundError(`there is no cluster in ${label}`, {
      hint: "check the URL's prefix; a new cluster is made by `cocoon-net cluster init --parent-cidr …`, or by the first node's --parent-cidr",
    });
  }
  if (config === undefined) {
    throw new ConflictError(
      `${label} is empty, but this node belongs to cluster ${clusterUID}: its data is lost or the URL's prefix is wrong`,
      { hint: "restore it with `cocoon-net store import`, or tear the node down" },
    );
  }
  if (clusterUID === undefined) return config;
  const found = placeOf(config).clusterUID;
  if (found === clusterUID) return config;
  throw new ConflictError(`${label} holds cluster ${found}, but this node belongs to cluster ${clusterUID}`, {
    hint: "use that cluster's store URL and prefix, or tear the node down and join anew",
  });
}

/** @throws {ConflictError} when this `config` is not the one that counts. */
export function requireHere(config: Pick<Entry, "key" | "value">, label: string): void {
  // Cheap, and leaves what is malformed to whoever reads the rest of it.
  if (!/"schema":\s*"(incoming|moved)"/.test(config.value)) return;
  const { state, transfer } = placeOf(config);
  const other = transfer?.store ?? "another store";
  if (state === "moved") {
    throw new ConflictError(
      `the cluster in ${label} has moved to ${other}${transfer ? ` at ${transfer.time}` : ""}`,
      { hint: "use that store: change the config's `store` line, --store or COCOON_NET_STORE" },
    );
  }
  if (state === "incoming") {
    throw new ConflictError(`${label} is being filled from ${other} and is not in use yet`, {
      hint: "wait until that is done; if it was stopped, run the same `cocoon-net store` command again",
    });
  }
}

const formerEpochsSchema: z.RecordSchema<{ readonly former: readonly Revision[] }> = z.looseObject({
  former: z.array(z.int()),
});

/** Value of `epochs/{node}`. */
export function encodeFormerEpochs(former: readonly Revision[]): string {
  return encode({ former });
}

/**
 * By which epochs the ownership in `subnets/{node}` was known in the stores it was copied from, oldest first. The
 * mark counts only while the claim stands as the copy wrote it: both came in one transaction, so they share its
 * revision, and whoever claims the subnet anew leaves the mark behind.
 */
export function formerEpochs(claim: Entry, mark: Entry | undefined): readonly Revision[] {
  if (mark?.modRevision !== claim.modRevision) return [];
  return decode(formerEpochsSchema, mark).former;
}

/**
 * The epoch under which an ownership that a node has on record stands in this store: the recorded one, or the one
 * that a copy gave it here; undefined where it does not stand (G3). A copy changes revisions, not owners, so everything
 * else must be as on record: the subnet, the node's uid (G12), and an epoch that the copy names.
 * @param claim `subnets/{node}` @param mark `epochs/{node}` @param about `nodes/{node}`, all read in one transaction
 */
export function standingEpoch(
  record: { readonly uid: string; readonly subnet: string; readonly epoch: Revision },
  claim: Entry | undefined,
  mark: Entry | undefined,
  about: Entry | undefined,
): Revision | undefined {
  if (claim?.value !== encode(record.subnet)) return undefined;
  if (claim.modRevision === record.epoch) return record.epoch;
  if (!formerEpochs(claim, mark).includes(record.epoch)) return undefined;
  return about && decode(nodeSchema, about).uid === record.uid ? claim.modRevision : undefined;
}
