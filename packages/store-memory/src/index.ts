export * from "./clock.ts";
export { MemoryDatabase, type MemoryDatabaseOptions } from "./database.ts";
export { default, default as memoryDriver } from "./driver.ts";
export { MemoryLink } from "./link.ts";
export { type MemoryStoreOptions, openMemoryStore } from "./store.ts";
