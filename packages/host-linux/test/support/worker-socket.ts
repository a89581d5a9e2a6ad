// Runs in a worker thread: a socket there, and word of its link.
import { parentPort, workerData } from "node:worker_threads";
import { openDhcpSocket } from "@cocoon-net/host-linux";

await openDhcpSocket({ ...workerData, onLinkBack: () => parentPort?.postMessage("back") });
parentPort?.postMessage("open");
