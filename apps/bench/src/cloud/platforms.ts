import { gkeDriver } from "@cocoon-net/cloud-gke";
import { volcengineDriver } from "@cocoon-net/cloud-volcengine";
import type { CloudDriver } from "@cocoon-net/core";
import { parentCIDR } from "./init.ts";
import { gceLeast, type Least, type Rates, volcengineLeast } from "./least.ts";
import type { SimulatedCloud } from "./simulator-worker.ts";

export type PlatformName = "volcengine" | "gke";
export const platformNames: readonly PlatformName[] = ["volcengine", "gke"];

/** How fast the simulated cloud lets itself be asked, and how it is configured beside that. */
export interface Platform {
  readonly name: PlatformName;
  readonly driver: CloudDriver;
  /** Of the shared budget. */
  readonly rates: Rates;
  readonly simulated: SimulatedCloud;
  least(nodes: number): Least;
  /** What it plays, for the reader. */
  readonly played: string;
}

export interface PlatformOptions {
  /** Addresses for VMs on each node. Volcengine only: at GCE it is always the whole block. */
  readonly poolSize: number;
  /** Rates are multiplied by it, the cloud's delays divided. The driver's pauses stay, so its times then say little. */
  readonly speed: number;
}

/** The program before this one slept so long after a creation and an attachment; it saw no subnet take longer. */
const volcengineMs = { createSubnetMs: 1_000, createEniMs: 2_000, attachMs: 4_000 };
/** Seen on bare-metal instances. */
const addressesPerEni = 20;

/** What the simulator's account lets through is what a vendor's plugin plays an account with in its own tests. */
function volcengine({ poolSize, speed }: PlatformOptions): Platform {
  const read = { perSecond: 4 * speed, burst: 6 };
  const write = { perSecond: 2 * speed, burst: 2 };
  const enis = Math.ceil(poolSize / addressesPerEni);
  const node = { enis, addressesPerEni: Math.min(poolSize, addressesPerEni) };
  const createSubnetMs = volcengineMs.createSubnetMs / speed;
  const createEniMs = volcengineMs.createEniMs / speed;
  const attachMs = volcengineMs.attachMs / speed;
  const delays = { createSubnetMs, createEniMs, attachMs };
  return {
    name: "volcengine",
    driver: volcengineDriver,
    rates: { read, write },
    simulated: {
      platform: "volcengine",
      options: {
        delays,
        limits: {
          reads: { perSecond: read.perSecond, burst: read.burst + 1 },
          writes: { perSecond: write.perSecond, burst: write.burst + 1 },
          addressesPerSecurityGroup: 100_000,
        },
      },
    },
    least: (nodes) => volcengineLeast(nodes, node, { read, write }, delays),
    played:
      `${read.perSecond} reads/s in bursts of ${read.burst} and ${write.perSecond} writes/s in bursts of ${write.burst} ` +
      `(the account lets bursts of ${read.burst + 1} and ${write.burst + 1} through); ` +
      `a subnet takes ${createSubnetMs / 1000} s, with the VPC Pending; an ENI ${createEniMs / 1000} s, an attachment ${attachMs / 1000} s`,
  };
}

const gceMs = { pendingMs: 200, operationMs: 2_000 };

function gke({ speed }: PlatformOptions): Platform {
  const read = { perSecond: 20 * speed, burst: 60, perMinute: 240 * speed };
  const write = { perSecond: 10 * speed, burst: 20, perMinute: 60 * speed };
  const delays = { pendingMs: gceMs.pendingMs / speed, operationMs: gceMs.operationMs / speed };
  const operationMs = delays.pendingMs + delays.operationMs;
  return {
    name: "gke",
    driver: gkeDriver,
    rates: { read, write },
    simulated: {
      platform: "gke",
      options: {
        delays,
        secondaryRanges: { "cocoon-pods": parentCIDR },
        limits: { readsPerMinute: read.perMinute, writesPerMinute: write.perMinute },
      },
    },
    least: (nodes) => gceLeast(nodes, { read, write }, operationMs),
    played:
      `${read.perMinute} reads and ${write.perMinute} writes a minute, of which ${read.perSecond}/s and ${write.perSecond}/s ` +
      `in bursts of ${read.burst} and ${write.burst}; the project lets as many through in each minute of the clock; ` +
      `an operation takes ${operationMs / 1000} s`,
  };
}

export function platformOf(name: PlatformName, options: PlatformOptions): Platform {
  return name === "gke" ? gke(options) : volcengine(options);
}
