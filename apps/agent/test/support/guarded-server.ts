/** The DHCP server with all its parts on the bridge cni0 of this namespace. Argument: a directory. Prints its events. */
import { join } from "node:path";
import { parseAddress, parseCidr } from "@cocoon-net/core";
import { DhcpServer, FloodGuard, LeaseEngine, LeasesFile, loadLeases } from "@cocoon-net/dhcp";
import { openArpProbe, openBridgePorts, openDhcpSocket, openHostNetwork } from "@cocoon-net/host-linux";

const [, , directory = ""] = process.argv;
const bridge = "cni0";
const leasesFilePath = join(directory, "leases.json");
const network = openHostNetwork();
const { journal, state } = await loadLeases({
  journalPath: join(directory, "journal"),
  leasesFilePath,
  now: Date.now(),
});
const base = parseAddress("10.98.0.0");
const server = new DhcpServer({
  engine: new LeaseEngine(
    {
      subnet: parseCidr("10.98.0.0/24"),
      gateway: base + 1,
      pool: Array.from({ length: 16 }, (_, index) => base + 2 + index),
      coolDownMs: 0,
      leasesPerPort: 4,
    },
    state,
  ),
  journal,
  leasesFile: new LeasesFile(leasesFilePath),
  socket: await openDhcpSocket({ device: bridge }),
  network: {
    addRoute: (ip) => network.replaceHostRoute(ip, bridge),
    removeRoute: async (ip) => void (await network.deleteHostRoute(ip, bridge)),
    setNeighbour: (ip, mac) => network.replaceNeighbour(ip, mac, bridge),
  },
  guard: new FloodGuard({ ports: openBridgePorts(bridge) }),
  probe: openArpProbe({ device: bridge }),
  onEvent: (event) => console.log(JSON.stringify(event)),
});
await server.start();
console.log(JSON.stringify({ type: "ready" }));
setInterval(() => {
  const { pool, dropped } = server.stats();
  console.log(JSON.stringify({ type: "stats", pool, dropped }));
}, 50);
