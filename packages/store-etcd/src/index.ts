export { default, default as etcdDriver } from "./driver.ts";
export type { EtcdStoreOptions, EtcdTlsOptions } from "./options.ts";
export { openEtcdStore } from "./store.ts";
