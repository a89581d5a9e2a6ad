import type { ServerStats } from "@cocoon-net/dhcp";
import type { LinkState } from "./cluster-link.ts";
import { by, family, gauge } from "./exposition.ts";

export interface MetricSource {
  readonly grants: () => { readonly ok: number; readonly failed: number };
  readonly available: () => number;
  readonly active: () => number;
  /** Of the built-in server. */
  readonly server?: () => ServerStats | undefined;
  /** Set on a node whose pool follows demand: guests that wait, and whether it is smaller than it should be. */
  readonly waiting?: () => number;
  readonly short?: () => boolean;
  /** Set on a node with a store. */
  readonly link?: () => { readonly state: LinkState; readonly mirrorLag: number };
}

/**
 * The agent's metrics in the text format of Prometheus (version 0.0.4); the first three keep the names of the program
 * it takes over from.
 */
export function renderMetrics(source: MetricSource): string {
  const { ok, failed } = source.grants();
  const link = source.link?.();
  const families = [
    family("cocoon_net_dhcp_lease_total", "counter", "Grant attempts by result.", {
      '{result="ok"}': ok,
      '{result="failed"}': failed,
    }),
    gauge("cocoon_net_dhcp_pool_available", "Addresses that can be granted now.", source.available()),
    gauge("cocoon_net_dhcp_lease_active", "Live leases.", source.active()),
  ];
  const stats = source.server?.();
  if (stats) families.push(...serverFamilies(stats));
  if (source.waiting && source.short) {
    const { waiting, short } = source;
    families.push(
      gauge(
        "cocoon_net_dhcp_waiting_guests",
        "Guests that found no free address in the last minute.",
        waiting(),
      ),
      gauge("cocoon_net_pool_short", "1 while the pool cannot grow as demanded.", Number(short())),
    );
  }
  if (link) {
    const owned = Number(link.state === "owned");
    families.push(
      gauge("cocoon_net_mirror_pending", "Addresses not yet mirrored to the store.", link.mirrorLag),
      gauge("cocoon_net_subnet_owned", "1 while the store confirms this node's subnet.", owned),
      gauge("cocoon_net_subnet_lost", "1 once the subnet is lost.", Number(link.state === "lost")),
    );
  }
  return families.join("");
}

/** The labels' values are fixed words: message types, reasons, states. */
function serverFamilies({ received, sent, dropped, pool, journal }: ServerStats): string[] {
  const { free, offered, leased, cooling, declined, reserved } = pool;
  return [
    family("cocoon_net_dhcp_received_total", "counter", "Client messages by type.", by("type", received)),
    family("cocoon_net_dhcp_sent_total", "counter", "Answers by type.", by("type", sent)),
    family(
      "cocoon_net_dhcp_dropped_total",
      "counter",
      "Packets without an answer by reason.",
      by("reason", dropped),
    ),
    family(
      "cocoon_net_dhcp_addresses",
      "gauge",
      "Addresses of the pool by state.",
      by("state", { free, offered, leased, cooling, declined, reserved }),
    ),
    family("cocoon_net_journal_syncs_total", "counter", "Writes of the journal that were synced.", {
      "": journal.syncs,
    }),
    gauge("cocoon_net_journal_bytes", "Size of the journal.", journal.bytes),
    gauge(
      "cocoon_net_journal_failing",
      "1 while leases cannot be made durable.",
      Number(journal.failing !== undefined),
    ),
  ];
}
