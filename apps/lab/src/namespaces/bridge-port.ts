/** Lines of `ip -batch`. As the CNI bridge plugin plugs a VM in: isolated from its neighbours on the bridge. */
export function plugIn(tap: string): string[] {
  return [
    `link set ${tap} master cni0`,
    `link set ${tap} type bridge_slave isolated on`,
    `link set ${tap} up`,
  ];
}
