import type { CallOptions, ConnectionUrl, Store, StoreDriver } from "@cocoon-net/core";
import { optionsFromUrl, redisSchemes } from "./options.ts";
import { openRedisStore } from "./store.ts";

/** Opens `redis:`, `rediss:`, `redis+sentinel:` and `redis+cluster:` store URLs. */
const driver: StoreDriver = {
  schemes: redisSchemes,
  async open(url: ConnectionUrl, options?: CallOptions): Promise<Store> {
    return openRedisStore(optionsFromUrl(url), options);
  },
};

export default driver;
