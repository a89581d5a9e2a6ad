import {
  cancelMigration,
  type MigrationRequest,
  type RequestedMigration,
  readEvents,
  requestMigration,
} from "@cocoon-net/controller";
import { ConflictError, decode, keys, movedSchema, type Store } from "@cocoon-net/core";
import { openCluster } from "../cluster-views/show.ts";
import type { CommandContext } from "../command-context.ts";
import { UsageError } from "../failure.ts";
import { sayIfNobodyLeads } from "./operate.ts";

export interface MigrateFlags {
  readonly store: string;
  readonly ip?: string | undefined;
  readonly vm?: string | undefined;
  readonly to?: string | undefined;
  readonly wait: boolean;
  readonly cancel: boolean;
}

export async function clusterMigrate(flags: MigrateFlags, context: CommandContext): Promise<void> {
  const { ip, vm, to } = flags;
  if (flags.cancel) {
    if (ip === undefined) throw new UsageError("--cancel needs --ip");
    await using store = await openCluster(flags.store, context);
    const cancelled = await cancelMigration(store, ip, context);
    context.print(
      cancelled ? `${ip} stays where it is` : `${ip} is not on the way, or its new node has it already`,
    );
    return;
  }
  const request = requestOf(ip, vm, to);
  await using store = await openCluster(flags.store, context);
  const migration = await requestMigration(store, request, context);
  context.print(`${migration.ip} is to move from ${migration.from} to ${migration.to}`);
  await sayIfNobodyLeads(store, context);
  if (flags.wait) await follow(store, migration, context);
  else context.say(`\`cocoon-net cluster ip ${migration.ip}\` shows how far it is`);
}

function requestOf(ip: string | undefined, vm: string | undefined, to: string | undefined): MigrationRequest {
  if (to === undefined)
    throw new UsageError("--to is missing", { hint: "name the node that is to serve it" });
  if (ip !== undefined && vm === undefined) return { to, ip };
  if (vm !== undefined && ip === undefined) return { to, vm };
  throw new UsageError("name the guest by --ip or by --vm, and by one of them only");
}

/** The move is a job of the controllers: it goes on whether or not anybody waits. */
async function follow(
  store: Store,
  { intent, ip, from, to }: RequestedMigration,
  context: CommandContext,
): Promise<void> {
  const { signal } = context;
  for await (const event of readEvents(store, { ip, follow: true, signal })) {
    if (event.intent !== intent || event.type === "move-requested") continue;
    if (event.type === "move-finished") return context.print(event.message);
    if (event.type === "move-aborted" || event.type === "move-ended") {
      const { entry } = await store.get(keys.moved(ip), { signal });
      const holder = entry ? decode(movedSchema, entry).node : from;
      throw new ConflictError(`${ip} did not move to ${to}: ${event.message}`, {
        hint: `it is ${holder}'s; \`cocoon-net cluster ip ${ip}\` shows its history`,
      });
    }
    context.say(event.message);
  }
  signal.throwIfAborted();
}
