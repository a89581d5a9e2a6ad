import type { CallOptions, StoreCapabilities } from "@cocoon-net/core";
import type { EtcdConnection } from "./connection.ts";
import type { Keyspace } from "./keyspace.ts";
import { limits } from "./transaction.ts";

const openTimeoutMs = 5_000;

/** Asks the server what it is, and proves that we may read under our prefix; all in one deadline. */
export async function readCapabilities(
  connection: EtcdConnection,
  keyspace: Keyspace,
  { signal, timeoutMs = openTimeoutMs }: CallOptions = {},
): Promise<StoreCapabilities> {
  const end = performance.now() + timeoutMs;
  const left = () => ({ signal, timeoutMs: end - performance.now() });
  const status = await connection.call(
    { what: "open", writes: false, send: (client, limit) => client.maintenance.status(limit) },
    left(),
  );
  await connection.probe(keyspace.range(""), left());
  const { members } = await connection.call(
    {
      what: "list the members",
      writes: false,
      send: (client, limit) => client.cluster.memberList({}, limit),
    },
    left(),
  );
  const corrupt = status.errors.some((alarm) => alarm.includes("CORRUPT"));
  return {
    server: `etcd ${status.version}`,
    linearizable: true,
    pinnedReads: true,
    durability: corrupt
      ? "the members disagree about the data (alarm CORRUPT): repair the cluster before relying on it"
      : durability(members.filter((member) => !member.isLearner).length),
    trustworthy: !corrupt,
    ...limits,
  };
}

function durability(members: number): string {
  if (members <= 1) return "fsynced by its only member: survives its crash, not the loss of its disk";
  const lost = Math.floor((members - 1) / 2);
  return `fsynced by a majority of ${members} members: survives the loss of ${lost === 0 ? "none" : `any ${lost}`}`;
}
