import { describeError } from "@cocoon-net/core";
import { BuiltinLeaseBook } from "../builtin-lease-book.ts";
import type { ClusterLink } from "../cluster-link.ts";
import type { CommandContext } from "../command-context.ts";
import type { LeaseBook } from "../lease-book.ts";
import { checkLevel } from "../log-level.ts";
import type { Assignment, DaemonFlags } from "./assignment.ts";

/** SIGHUP: what the config file says of DHCP and the log's level counts from now on; the rest is named. */
export function reloadOnHangup(
  { reload, onHangup }: CommandContext,
  { log, flags }: Assignment,
  book: LeaseBook,
  link: ClusterLink | undefined,
): Disposable | undefined {
  let running: Promise<void> = Promise.resolve();
  const once = async (): Promise<void> => {
    if (!reload) return log.warn("SIGHUP: there is no config file to read again; --config names one");
    const { dhcp = {}, logLevel, changed } = await reload();
    const level = logLevel ?? "info";
    checkLevel(level);
    if (book instanceof BuiltinLeaseBook) {
      book.setDhcp(dhcp);
      if (!link) book.setLeaseTime(dhcp.leaseMs ?? day);
    }
    log.level = level;
    const ours = changed.filter((key) => concernsDaemon(key, flags));
    const ignored = link ? ours.filter((key) => key === leaseTime) : [];
    if (ignored.length > 0)
      log.warn({ settings: ignored }, "changed, but with a store the cluster's lease time counts");
    const waiting = ours.filter((key) => !isLive(key));
    if (waiting.length > 0)
      log.warn({ settings: waiting }, "changed in the config file, but only a restart takes them over");
    log.info(
      { changed: ours.filter((key) => !waiting.includes(key) && !ignored.includes(key)) },
      "config file read again",
    );
  };
  return onHangup?.(() => {
    running = running
      .then(once)
      .catch((error: unknown) =>
        log.error({ err: error }, `config file not taken over: ${describeError(error)}`),
      );
  });
}

const day = 86_400_000;

const leaseTime: string = "dhcp.leaseTime";

/** Settings under another command's name are none of the daemon's. */
function concernsDaemon(key: string, { controller }: DaemonFlags): boolean {
  if (controller && /^(controller|cloud)\./.test(key)) return true;
  return !key.includes(".") || /^(daemon|drivers|dhcp)\./.test(key);
}

function isLive(key: string): boolean {
  return /^(daemon\.)?logLevel$|^dhcp\./.test(key);
}
