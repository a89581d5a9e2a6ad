import { readFileSync } from "node:fs";
import { parseConnectionUrl, type StoreDriver, UnavailableError } from "@cocoon-net/core";

/*
 * The program of checks/processes.ts: opens a store, watches it, and writes for as long as its session holds.
 * It says what happens, a word a line; told to, it disposes the store, and must then end by itself.
 */

const [module = "", url = "", ttl = ""] = process.argv.slice(2);
const { default: driver } = (await import(module)) as { default: StoreDriver };
const store = await driver.open(
  parseConnectionUrl(url, { readSecretFile: (path) => readFileSync(path, "utf8") }),
);
const session = await store.session(Number(ttl), { timeoutMs: 10_000 });
session.signal.addEventListener("abort", () => console.log("over"));

const watching = (async () => {
  for await (const { type } of store.watch("s/")) console.log(type);
})();

async function write(): Promise<void> {
  for (let beat = 1; !session.signal.aborted; beat += 1) {
    try {
      await store.txn({ then: [{ put: "s/beat", value: `${beat}`, session }] });
      if (beat === 1) console.log("writing");
    } catch (error) {
      // Refused, as the session is over: by then the signal must have told it.
      if (!(error instanceof UnavailableError)) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const writing = write();

process.stdin.once("data", async () => {
  await store[Symbol.asyncDispose]();
  await Promise.all([watching, writing]);
  console.log("disposed");
  process.stdin.destroy();
});
