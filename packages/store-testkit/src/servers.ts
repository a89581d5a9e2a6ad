/** Launchers of real servers, for programs that are not tests: importing them does not import vitest. */
export { type EtcdOptions, startEtcd } from "./etcd-server.ts";
export { freePort } from "./free-port.ts";
export { type RedisOptions, startRedis } from "./redis-server.ts";
export type { TestServer, TestServerOptions } from "./server-process.ts";
