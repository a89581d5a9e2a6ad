import { ConflictError, InvalidError } from "@cocoon-net/core";
import type { CommandContext } from "../command-context.ts";
import { checkDhcp, type DhcpConfig } from "../dhcp-settings.ts";
import { checkStoreUrl } from "../drivers.ts";
import { mustBeWritable } from "../durable-file.ts";
import { UsageError } from "../failure.ts";
import { type LeaseFile, parseLeaseSource } from "../followed-lease-book.ts";
import { createLogger, type Logger } from "../log.ts";
import type { MovedGuests } from "../moved-guests.ts";
import { checkPool } from "../node-plan.ts";
import { type PoolFile, type RegistrationFile, StateDirectory } from "../state-directory.ts";

export interface DaemonFlags {
  readonly stateDir: string;
  readonly leaseFile: string;
  readonly skipIptables: boolean;
  readonly metricsAddr: string;
  readonly leaseSource: string;
  /** Milliseconds. */
  readonly sessionTtl: number;
  readonly pidFile: string;
  readonly controller: boolean;
  readonly controlSocket?: string | undefined;
  readonly logLevel?: string | undefined;
  readonly store?: string | undefined;
  readonly parentCidr?: string | undefined;
  readonly cniConflist?: string | undefined;
}

/** What the daemon is to do, checked before it touches anything. */
export interface Assignment {
  readonly flags: DaemonFlags;
  readonly state: StateDirectory;
  readonly pool: PoolFile;
  readonly registered: RegistrationFile | undefined;
  /** The file of the DHCP server beside this agent; undefined when this agent serves. */
  readonly follow: LeaseFile | undefined;
  readonly dhcp: DhcpConfig;
  /** Undefined for a node without a store, or beside another DHCP server: it takes no part in moves. */
  readonly moved: MovedGuests | undefined;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** @throws {UsageError} for flags, {@link InvalidError} for files that do not fit; {@link ConflictError} when the subnet was lost */
export async function readAssignment(flags: DaemonFlags, context: CommandContext): Promise<Assignment> {
  const logger = createLogger(context.env, flags.store, flags.logLevel);
  const follow = parseLeaseSource(flags.leaseSource);
  if (follow !== undefined && flags.store === undefined) {
    throw new UsageError("--lease-source file: does nothing without a store", { hint: "give --store URL" });
  }
  if (flags.controller && flags.store === undefined) {
    throw new UsageError("--controller does nothing without a store", { hint: "give --store URL" });
  }
  if (follow === undefined) context.requireRoot();
  if (flags.store !== undefined) checkStoreUrl(flags.store, context.drivers);
  const state = new StateDirectory(flags.stateDir);
  const pool = await state.readPool();
  checkPool(pool, state.poolPath);
  const registered = await state.readRegistration();
  if (registered) checkRegistration(registered, flags, pool, state);
  const { dhcp = {}, signal } = context;
  if (follow === undefined) {
    await mustBeWritable(state.journalPath);
    await mustBeWritable(flags.leaseFile);
    checkDhcp(dhcp, pool);
  }
  const log = logger.child({ node: pool.nodeName });
  const moved =
    flags.store === undefined || follow !== undefined
      ? undefined
      : await (await import("../moved-guests.ts")).MovedGuests.open({
          pool,
          uid: registered?.uid,
          state,
          log,
        });
  return { flags, state, pool, registered, follow, dhcp, moved, log, signal };
}

function checkRegistration(
  { store, subnet, lostAt }: RegistrationFile,
  flags: DaemonFlags,
  pool: PoolFile,
  state: StateDirectory,
): void {
  const hint = "run init or adopt again";
  if (flags.store === undefined) {
    throw new InvalidError(`node ${pool.nodeName} is registered in ${store}`, {
      hint: "give its --store URL",
    });
  }
  if (lostAt !== undefined) {
    // G3: what was lost is somebody else's, also while the store cannot be asked.
    throw new ConflictError(`node ${pool.nodeName} lost ${subnet} at ${lostAt}`, {
      hint: `${hint} to join with a new subnet`,
    });
  }
  if (subnet !== undefined && subnet !== pool.subnet) {
    throw new InvalidError(
      `${state.poolPath} has ${pool.subnet}, but the node is registered with ${subnet}`,
      { hint },
    );
  }
}
