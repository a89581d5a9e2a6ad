export { default, default as gkeDriver } from "./driver.ts";
export * from "./host.ts";
