import { type CallOptions, KeptSession, serverTtlMs } from "@cocoon-net/core";
import type { EtcdConnection } from "./connection.ts";

/** How long the disposing of a session waits for the server. */
const revokeTimeoutMs = 2_000;

/** Opens an etcd lease, which counts whole seconds, and keeps it. @throws {InvalidError} for an unusable TTL. */
export async function openSession(
  connection: EtcdConnection,
  ttlMs: number,
  options?: CallOptions,
): Promise<KeptSession> {
  const TTL = Math.ceil(serverTtlMs(ttlMs) / 1_000);
  let sentAt = 0;
  const { ID: id } = await connection.call(
    {
      what: () => "open a session",
      writes: true,
      send: (client, limit) => {
        sentAt = performance.now();
        return client.leaseClient.leaseGrant({ TTL }, limit);
      },
    },
    options,
  );
  return new KeptSession({
    ...{ id, ttlMs, sentAt, where: `etcd ${connection.where}` },
    renew: async (timeoutMs, signal) => (await connection.renewLease(id, timeoutMs, signal)) > 0,
    end: async () => {
      await connection.call(
        {
          what: () => `end session ${id}`,
          writes: true,
          send: (client, limit) => client.leaseClient.leaseRevoke({ ID: id }, limit),
        },
        { timeoutMs: revokeTimeoutMs },
      );
    },
  });
}
