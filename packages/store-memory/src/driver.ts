import {
  type ConnectionUrl,
  InvalidError,
  rejectUnknownParameters,
  type Store,
  type StoreDriver,
} from "@cocoon-net/core";
import { openMemoryStore } from "./store.ts";

/** `memory:` opens a database of its own, which nobody else sees. Share one through `openMemoryStore`. */
const driver: StoreDriver = {
  schemes: ["memory"],
  async open(url: ConnectionUrl): Promise<Store> {
    rejectUnknownParameters(url, []);
    if (url.hosts.length > 0 || url.path !== "" || url.username !== undefined) {
      throw new InvalidError(`store URL ${url.label} names a place, but a memory store has none`, {
        hint: "write memory:",
      });
    }
    return openMemoryStore();
  },
};

export default driver;
