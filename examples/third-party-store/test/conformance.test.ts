import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { parseConnectionUrl } from "@cocoon-net/core";
import {
  applies,
  processes,
  runCheck,
  type StoreUnderTest,
  storeConformance,
} from "@cocoon-net/store-testkit";
import { afterAll, describe, it } from "vitest";
import driver from "../src/driver.ts";

const directory = mkdtempSync(join(tmpdir(), "store-sqlite-"));
const file = join(directory, "conformance.db");
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const url = ({ prefix }: { readonly prefix: string }): string => `sqlite://${file}?prefix=${prefix}`;

const subject: StoreUnderTest = {
  name: "store-sqlite",
  open: (options) => driver.open(parseConnectionUrl(url(options))),
  async forgetHistory() {
    const database = new DatabaseSync(file);
    database.exec(`BEGIN IMMEDIATE; DELETE FROM changes;
      UPDATE state SET value = (SELECT value FROM state WHERE name = 'revision') WHERE name = 'forgotten'; COMMIT`);
    database.close();
  },
};

storeConformance(subject);

describe("store-sqlite: in processes of their own", () => {
  const apart = { ...subject, driver: { module: new URL("../src/driver.ts", import.meta.url).href, url } };
  for (const check of processes.checks) {
    // The lock is the file's: a process that is stopped while it writes holds up all others, so that no key vanishes
    // before it goes on (README).
    if (applies(check, apart) && !check.name.includes("stopped")) {
      it(check.name, () => runCheck(check, apart), 60_000);
    }
  }
});
