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

/** How namespaces can be had here, or why not, in a few words. */
export type Access =
  | { readonly by: "root" }
  | { readonly by: "own root" }
  | { readonly by: "nothing"; readonly obstacle: string };

export function accessToNamespaces(store: StoreKind): Access {
  const missing = missingPrerequisite(store);
  if (missing !== undefined) return { by: "nothing", obstacle: missing };
  // Root in a container may lack the rights, and still be allowed to make a user namespace.
  const isRoot = process.getuid?.() === 0;
  if (isRoot && rehearse(["unshare", "--mount", "--net"]) === undefined) return { by: "root" };
  const said = rehearse(ownRoot);
  return said === undefined
    ? { by: "own root" }
    : { by: "nothing", obstacle: `no network namespaces here (${said})` };
}

function missingPrerequisite(store: StoreKind): string | undefined {
  if (process.platform !== "linux") return `network namespaces need Linux, this is ${process.platform}`;
  const { ETCD_BIN = "etcd", REDIS_BIN = "redis-server" } = process.env;
  const server = { etcd: ETCD_BIN, redis: REDIS_BIN }[store];
  const programs = ["ip", "iptables", "udhcpc", "ping", "setpriv", "unshare", "nsenter", server];
  const missing = programs.filter((program) => !onPath(program));
  return missing.length === 0 ? undefined : `not installed: ${missing.join(", ")}`;
}

/** What the first refusal says; undefined when everything is allowed. */
function rehearse(unshare: readonly string[]): string | undefined {
  const [program = "", ...args] = [...unshare, "sh", "-ec", rehearsal];
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8", timeout: 10_000 });
  return status === 0 ? undefined : (stderr.trim().split("\n")[0] ?? "no answer");
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
