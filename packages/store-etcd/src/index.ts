export type { EtcdTlsOptions, Pem } from "./certificates.ts";
export { default, default as etcdDriver } from "./driver.ts";
export type { EtcdStoreOptions } from "./options.ts";
export { openEtcdStore } from "./store.ts";
