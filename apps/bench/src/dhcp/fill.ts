import { type ServerName, startServer } from "./dhcp-servers.ts";
import type { Bench } from "./measure.ts";
import { perfdhcp } from "./perfdhcp.ts";

/** More than a pool has addresses. */
const manyClients = 1_000_000;

export interface Filling {
  readonly leases: number;
  /** Resident afterwards. */
  readonly bytes: number;
  /** Processor time per grant, in microseconds, in the first and in the last tenth of the pool. */
  readonly firstCpuUs: number;
  readonly lastCpuUs: number;
  readonly lost: number;
}

/** Grants every address of a pool. */
export async function fill(bench: Bench, name: ServerName, size: number, rate: number): Promise<Filling> {
  await using server = await startServer(name, { ...bench, poolSize: size });
  const tenth = Math.floor(size / 10);
  const costs: number[] = [];
  let granted = 0;
  let sent = 0;
  for (let part = 0; part < 10; part++) {
    const count = part === 9 ? size - granted : tenth;
    const seconds = Math.max(1, Math.round(count / rate));
    const before = server.cpuMs();
    const firstMac = `00:0e:${part.toString(16).padStart(2, "0")}:00:00:00`;
    const load = { rate: Math.ceil(count / seconds), seconds, clients: manyClients, firstMac };
    const result = await perfdhcp(bench.lan, load);
    costs.push(((server.cpuMs() - before) * 1_000) / result.acks.received);
    granted += result.acks.received;
    sent += result.offers.sent;
  }
  return {
    leases: granted,
    bytes: server.memory().now,
    // The first tenth includes what compiling costs; the second does not.
    firstCpuUs: costs[1] ?? Number.NaN,
    lastCpuUs: costs[9] ?? Number.NaN,
    lost: sent - granted,
  };
}
