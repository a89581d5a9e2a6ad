export { addressView } from "./address.ts";
export { eventsView } from "./events.ts";
export { leasesView, vmView } from "./leases.ts";
export { nodesView } from "./nodes.ts";
export { overview } from "./overview.ts";
export { showView } from "./show.ts";
export { subnetView } from "./subnet.ts";
export { subnetsView } from "./subnets.ts";
