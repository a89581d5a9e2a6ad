export { default, default as volcengineDriver } from "./driver.ts";
