import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { clientDevice, gateway, type Lan } from "./lan.ts";

const run = promisify(execFile);

export interface Load {
  /** DISCOVER–OFFER–REQUEST–ACK exchanges to begin each second. */
  readonly rate: number;
  /** RENEWING REQUESTs each second besides. Default none. */
  readonly renewals?: number;
  readonly seconds: number;
  /** How many MACs, from `firstMac` on, in order and round again. */
  readonly clients: number;
  readonly firstMac: string;
  /** Whether to note the times of every packet; costs the generator memory. */
  readonly timed?: boolean;
}

export interface Exchanged {
  readonly sent: number;
  readonly received: number;
}

export interface LoadResult {
  readonly offers: Exchanged;
  readonly acks: Exchanged;
  readonly renewals: Exchanged;
  /** Of each packet that was to be answered, when `timed`. Ascending. */
  readonly latenciesMs: readonly number[];
  /** Processor time of the generator itself, in milliseconds. */
  readonly cpuMs: number;
}

const timeoutMs = 60_000;

/** Puts a load on the server and waits for the last answers. */
export async function perfdhcp(lan: Lan, load: Load): Promise<LoadResult> {
  const args = ["-4", "-r", String(load.rate), "-R", String(load.clients), "-b", `mac=${load.firstMac}`];
  if (load.renewals !== undefined) args.push("-f", String(load.renewals));
  if (load.timed) args.push("-x", "t");
  args.push("-p", String(load.seconds), "-W", "500000", "-l", clientDevice, gateway);
  const before = childrenCpuMs();
  // Exit code 3: some exchanges failed. That is what is measured. Where too many do, it sometimes takes the answer to one
  // packet for that to another, finds the times absurd and gives up.
  const { stdout } = await run("ip", ["netns", "exec", lan.guests, "perfdhcp", ...args], {
    timeout: timeoutMs,
    maxBuffer: 2 ** 28,
  }).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === 3 && "stdout" in error) {
      return { stdout: String(error.stdout) };
    }
    if (error instanceof Error && error.message.includes("timestamp must not be greater"))
      return { stdout: "" };
    throw error;
  });
  const cpuMs = childrenCpuMs() - before;
  return {
    offers: exchanged(stdout, "DISCOVER-OFFER"),
    acks: exchanged(stdout, "REQUEST-ACK"),
    renewals: exchanged(stdout, "REQUEST-ACK (renewal)"),
    latenciesMs: load.timed ? latencies(stdout) : [],
    cpuMs,
  };
}

/** Share of the messages that got no answer within a second. */
export function dropsOf({ offers, acks, renewals }: LoadResult): number {
  const sent = offers.sent + acks.sent + renewals.sent;
  const received = offers.received + acks.received + renewals.received;
  return sent === 0 ? 1 : 1 - received / sent;
}

/** Processor time of this process's children that have ended. No other child may end meanwhile. */
function childrenCpuMs(): number {
  const fields = readFileSync("/proc/self/stat", "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[13]) + Number(fields[14])) * 10; // USER_HZ is 100 on Linux
}

function exchanged(output: string, what: string): Exchanged {
  const start = output.indexOf(`***Statistics for: ${what}***`);
  if (start < 0) return { sent: 0, received: 0 };
  const [, sent, received] = /sent packets: (\d+)\nreceived packets: (\d+)/.exec(output.slice(start)) ?? [];
  return { sent: Number(sent), received: Number(received) };
}

function latencies(output: string): number[] {
  const found: number[] = [];
  for (const [, sent, received] of output.matchAll(/^sent \/ received: (\d+\.\d+) \/ (\d+\.\d+)$/gm)) {
    found.push((Number(received) - Number(sent)) * 1_000);
  }
  return found.sort((one, other) => one - other);
}
