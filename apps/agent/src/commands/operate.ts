import {
  cancelDrain,
  pauseReclaim,
  requestDrain,
  requestReclaim,
  resumeReclaim,
} from "@cocoon-net/controller";
import { InvalidError, keys, type Store } from "@cocoon-net/core";
import { openCluster } from "../cluster-views/show.ts";
import type { CommandContext } from "../command-context.ts";

interface StoreFlags {
  readonly store: string;
}

export async function clusterPause(
  flags: StoreFlags & { readonly reason: string },
  context: CommandContext,
): Promise<void> {
  await using store = await openCluster(flags.store, context);
  await pauseReclaim(store, flags.reason, context);
  context.print("nothing is freed until `cocoon-net cluster resume`");
}

export async function clusterResume(flags: StoreFlags, context: CommandContext): Promise<void> {
  await using store = await openCluster(flags.store, context);
  const resumed = await resumeReclaim(store, context);
  context.print(resumed ? "what frees goes on" : "nothing was paused");
}

export async function clusterDrain(
  node: string,
  flags: StoreFlags & { readonly cancel: boolean },
  context: CommandContext,
): Promise<void> {
  await using store = await openCluster(flags.store, context);
  if (flags.cancel) {
    const cancelled = await cancelDrain(store, node, context);
    context.print(cancelled ? `${node} stays, and grants again` : `${node} was not to leave`);
    return;
  }
  await requestDrain(store, node, context);
  context.print(`${node} grants nothing new, and leaves with its last guest`);
  context.say(follow(node));
  await sayIfNobodyLeads(store, context);
}

export async function clusterReclaim(
  node: string,
  flags: StoreFlags & { readonly force: boolean; readonly confirm?: string | undefined },
  context: CommandContext,
): Promise<void> {
  if (flags.force) await requireName(node, flags.confirm, context);
  await using store = await openCluster(flags.store, context);
  const { subnet, until, cannotExclude } = await requestReclaim(store, node, { force: flags.force }, context);
  context.print(`taking ${subnet} from ${node}`);
  if (until !== undefined) context.print(`should no fence succeed, it is free at ${until} at the soonest`);
  for (const risk of cannotExclude) context.say(`what nobody can exclude then: ${risk}`);
  context.say(follow(node));
  await sayIfNobodyLeads(store, context);
}

/** Force can give an address to two VMs: nobody does that by an arrow key and Enter. */
async function requireName(node: string, given: string | undefined, context: CommandContext): Promise<void> {
  const typed = given ?? (await context.ask?.(`type the name of the node to force this: `));
  if (typed?.trim() === node) return;
  throw new InvalidError(
    typed === undefined
      ? "--force asks for the node's name, and there is no terminal"
      : `that is not "${node}"`,
    { hint: `give --confirm ${node}; nothing was done` },
  );
}

/** What was asked for is a controller's to do. */
export async function sayIfNobodyLeads(store: Store, { signal, say }: CommandContext): Promise<void> {
  if ((await store.get(keys.leader, { signal })).entry !== undefined) return;
  say("warning: no controller leads now, and this waits for one; `cocoon-net controller` starts it");
}

function follow(node: string): string {
  return `\`cocoon-net cluster events --node ${node} --watch\` shows how far it is`;
}
