export * from "./cloud.ts";
export * from "./connection-url.ts";
export * from "./errors.ts";
export * from "./ipv4.ts";
export * from "./keys.ts";
export * from "./model.ts";
export * from "./store.ts";
