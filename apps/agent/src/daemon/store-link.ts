import type { DisposeStack, Registration, Store } from "@cocoon-net/core";
import { ClusterLink } from "../cluster-link.ts";
import { joinCluster, recordedRegistration, rememberIn } from "../cluster-membership.ts";
import type { CommandContext } from "../command-context.ts";
import { followDeparture } from "../departure.ts";
import { openStore } from "../drivers.ts";
import type { LeaseBook } from "../lease-book.ts";
import { agentVersion } from "../version.ts";
import type { Assignment } from "./assignment.ts";

/** What a node has to do with the store: its link, and that it drains when its machine is about to end. */
export function linkToStore(
  url: string,
  assignment: Assignment,
  book: LeaseBook,
  { drivers, env }: CommandContext,
  parts: DisposeStack,
): ClusterLink {
  const { flags, pool, registered, moved, log } = assignment;
  const link = new ClusterLink({
    open: (signal) => openStore(url, { signal, drivers }),
    register: registrar(assignment),
    book,
    moved,
    sessionTtlMs: flags.sessionTtl,
    joined: registered?.epoch !== undefined,
    facts: { agentVersion, leaseSource: flags.leaseSource, gateway: pool.gateway },
    onLost: async () => {
      await recordLoss(assignment);
      await moved?.lose();
    },
    log,
  });
  const tell = (why: string | undefined): Promise<void> => link.depart(why);
  parts.use(followDeparture({ platform: pool.platform, drivers, env, tell, log }));
  return link;
}

/** How the node proves who it is: by the epoch on record, or, the first time, by registering its subnet. */
function registrar({ flags, pool, state, log, signal }: Assignment): (store: Store) => Promise<Registration> {
  return async (store) => {
    const file = await state.readRegistration();
    if (file?.epoch !== undefined && file.subnet !== undefined) {
      const { subnet, epoch } = file;
      // As it is now: the pool follows demand.
      const { platform, subnetID, eniIDs } = await state.readPool();
      const registration = await recordedRegistration(
        store,
        { ...file, subnet, epoch },
        { signal, about: { platform, subnetID, eniIDs }, onChanged: rememberIn(state) },
      );
      const now = { store: store.label, leaseSource: flags.leaseSource };
      if (Object.entries(now).some(([name, value]) => file[name as keyof typeof now] !== value)) {
        await state.writeRegistration({ ...file, ...now });
      }
      return registration;
    }
    return joinCluster(store, state, {
      node: pool.nodeName,
      subnet: pool.subnet,
      platform: pool.platform,
      parentCIDR: flags.parentCidr,
      leaseSource: flags.leaseSource,
      subnetID: pool.subnetID,
      eniIDs: pool.eniIDs,
      signal,
      onWait: (message) => log.warn(message),
    });
  };
}

/** A restart must not serve the subnet again, in particular not while the store is away (G3). */
async function recordLoss({ state }: Assignment): Promise<void> {
  const file = await state.readRegistration();
  if (file) await state.writeRegistration({ ...file, lostAt: new Date().toISOString() });
}
