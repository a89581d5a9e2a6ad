import type { Command } from "commander";

/** An example of each command, by its words. The store in them stands for yours. */
const examples: Readonly<Record<string, string>> = {
  init: "cocoon-net init --node-name n1 --subnet 172.20.100.0/24",
  adopt: "cocoon-net adopt --platform gke --node-name n1 --subnet 10.99.0.0/24 --dry-run",
  daemon: "cocoon-net daemon --store etcd://10.0.0.1:2379",
  controller: "cocoon-net controller --store etcd://10.0.0.1:2379 --policy fence",
  status: "cocoon-net status",
  resize: "cocoon-net resize --pool-size 60",
  doctor: "cocoon-net doctor --store etcd://10.0.0.1:2379 -o json",
  teardown: "cocoon-net teardown --dry-run",
  "cluster init": "cocoon-net cluster init --parent-cidr 172.20.0.0/16 --store etcd://10.0.0.1:2379",
  "cluster nodes": "cocoon-net cluster nodes --status suspect --watch",
  "cluster subnets": "cocoon-net cluster subnets --node n1",
  "cluster subnet": "cocoon-net cluster subnet 172.20.7.0/24",
  "cluster leases": "cocoon-net cluster leases --node n1 -o json",
  "cluster ip": "cocoon-net cluster ip 172.20.7.14",
  "cluster vm": "cocoon-net cluster vm vm-1",
  "cluster events": "cocoon-net cluster events --subnet 172.20.7.0/24",
  "cluster watch": "cocoon-net cluster watch",
  "cluster pause": "cocoon-net cluster pause --reason maintenance",
  "cluster resume": "cocoon-net cluster resume",
  "cluster migrate": "cocoon-net cluster migrate --vm vm-1 --to n2 --wait",
  "cluster drain": "cocoon-net cluster drain n1",
  "cluster reclaim": "cocoon-net cluster reclaim n1",
  "cluster check": "cocoon-net cluster check",
  "cluster repair": "cocoon-net cluster repair",
  "store copy": "cocoon-net store copy --from redis://10.0.0.2 --to etcd://10.0.0.1:2379 --verify",
  "store export": "cocoon-net store export --file cluster.jsonl",
  "store import": "cocoon-net store import --file cluster.jsonl --store etcd://10.0.0.1:2379",
  "store check": "cocoon-net store check --store etcd://10.0.0.1:2379",
  "config explain": "cocoon-net --config /etc/cocoon-net/config.yaml config explain daemon",
  "config schema": "cocoon-net config schema",
  completion: "source <(cocoon-net completion bash)",
};

/** Puts its example under the help of each command. */
export function addExamples(command: Command, path: readonly string[] = []): void {
  const example = examples[path.join(" ")];
  if (example !== undefined) command.addHelpText("after", `\nExample:\n  ${example}`);
  for (const inner of command.commands) addExamples(inner, [...path, inner.name()]);
}
