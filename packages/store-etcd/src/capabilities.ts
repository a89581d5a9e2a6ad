import { AuthError, type CallOptions, type StoreCapabilities } from "@cocoon-net/core";
import { AlarmAction, AlarmType } from "etcd3";
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
  await connection.probe(keyspace.range(""), left(), "open");
  const [version, { alarms }, { members }] = await Promise.all([
    connection
      .call(
        {
          what: () => "ask for the version",
          writes: false,
          send: (client, limit) => client.maintenance.status(limit),
        },
        left(),
      )
      .then((status) => status.version)
      .catch((error: unknown) => {
        // With authentication on, servers from 3.4.44 and 3.5.30 on tell it to root only.
        if (!(error instanceof AuthError)) throw error;
        return "(its version is told to root only)";
      }),
    connection.call(
      {
        what: () => "read the alarms",
        writes: false,
        send: (client, limit) => client.maintenance.alarm({ action: AlarmAction.Get }, limit),
      },
      left(),
    ),
    connection.call(
      {
        what: () => "list the members",
        writes: false,
        send: (client, limit) => client.cluster.memberList({}, limit),
      },
      left(),
    ),
  ]);
  // The client gives enumerations by their names.
  const corrupt = alarms.some(({ alarm }) => String(alarm) === AlarmType[AlarmType.Corrupt]);
  return {
    server: `etcd ${version}`,
    linearizable: true,
    pinnedReads: true,
    durability: corrupt
      ? "the members disagree about the data (alarm CORRUPT), nothing is written: repair the cluster"
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
