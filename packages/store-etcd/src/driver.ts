import type { StoreDriver } from "@cocoon-net/core";
import { resolveEtcdUrl } from "./options.ts";
import { openResolved } from "./store.ts";

const driver: StoreDriver = {
  schemes: ["etcd", "etcds"],
  open: async (url, options) => openResolved(resolveEtcdUrl(url), options),
};

export default driver;
