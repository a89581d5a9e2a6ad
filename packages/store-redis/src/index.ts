export { default, default as redisDriver } from "./driver.ts";
export type { RedisStoreOptions, RedisTlsOptions } from "./options.ts";
export { openRedisStore } from "./store.ts";
