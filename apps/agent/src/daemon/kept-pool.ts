import type { DisposeStack } from "@cocoon-net/core";
import type { BuiltinLeaseBook } from "../builtin-lease-book.ts";
import { runOwnCommand } from "../child-command.ts";
import type { ClusterLink } from "../cluster-link.ts";
import { PoolKeeper } from "../pool-keeper.ts";
import type { PoolPolicy } from "../pool-policy.ts";
import type { Assignment } from "./assignment.ts";

const resizeTimeoutMs = 900_000;

/** Lets the pool follow demand. Cloud work is done by a process of its own. */
export function keepPool(
  { flags, state, log }: Assignment,
  policy: PoolPolicy,
  book: BuiltinLeaseBook,
  link: ClusterLink | undefined,
  configFile: string | undefined,
  parts: DisposeStack,
): PoolKeeper {
  const resize = (args: readonly string[], signal: AbortSignal): Promise<string> => {
    const host = [
      ...["--lease-file", flags.leaseFile, "--pid-file", flags.pidFile],
      ...(flags.skipIptables ? ["--skip-iptables"] : []),
      ...(flags.cniConflist === undefined ? [] : ["--cni-conflist", flags.cniConflist]),
    ];
    const config = configFile === undefined ? [] : ["--config", configFile];
    return runOwnCommand([...config, "resize", "--state-dir", state.path, ...host, ...args], {
      signal,
      timeoutMs: resizeTimeoutMs,
      onProgress: (line) => log.info(`resize: ${line}`),
    });
  };
  const keeper = parts.use(
    new PoolKeeper({
      policy,
      pool: {
        state: () => book.use(),
        setAside: (count) => book.setAside(count),
        async reload() {
          const { ips, eniIDs = [], subnetID } = await state.readPool();
          book.setPool(ips);
          await link?.tell({ eniIDs, ...(subnetID === undefined ? {} : { subnetID }) });
        },
      },
      grow: async (size, signal) => {
        const { short } = JSON.parse(await resize(["--pool-size", String(size)], signal)) as {
          short?: string;
        };
        return short;
      },
      release: async (addresses, signal) => void (await resize(["--release", addresses.join(",")], signal)),
      log,
    }),
  );
  book.onGuest((mac, outcome) => (outcome === "served" ? keeper.served(mac) : keeper.refused(mac)));
  return keeper;
}
