import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

export type StoreKind = "etcd" | "redis";

/** What each stage needs, in a namespace made like the lab's own. Each line is one thing that some kernels refuse. */
const rehearsal = `
mount -t tmpfs tmpfs /run
mkdir /run/netns
ip netns add probe
nsenter --net=/run/netns/probe ip link add bridge0 type bridge
nsenter --net=/run/netns/probe ip link add veth0 type veth peer name veth1
ip netns exec probe sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
ip netns exec probe iptables -t nat -A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE
`;

/** Start of a command line that gives a user without rights a root of their own, with namespaces of their own. */
export const ownRoot: readonly string[] = ["unshare", "--user", "--map-root-user", "--mount", "--net"];

/** Why namespaces cannot be had here, in a few words; undefined when they can. */
export function obstacleToNamespaces(store: StoreKind): string | undefined {
  if (process.platform !== "linux") return `network namespaces need Linux, this is ${process.platform}`;
  const server =
    store === "etcd" ? (process.env.ETCD_BIN ?? "etcd") : (process.env.REDIS_BIN ?? "redis-server");
  for (const program of ["ip", "iptables", "udhcpc", "ping", "setpriv", "unshare", "nsenter", server]) {
    if (!onPath(program)) return `${program} is not installed`;
  }
  const unshare = process.getuid?.() === 0 ? ["unshare", "--mount", "--net"] : ownRoot;
  const [program = "", ...args] = [...unshare, "sh", "-ec", rehearsal];
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8", timeout: 10_000 });
  if (status === 0) return undefined;
  const [said = "no answer"] = stderr.trim().split("\n");
  return `no network namespaces here (${said})`;
}

function onPath(program: string): boolean {
  if (program.includes("/")) return isExecutable(program);
  return (process.env.PATH ?? "").split(delimiter).some((folder) => isExecutable(join(folder, program)));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
