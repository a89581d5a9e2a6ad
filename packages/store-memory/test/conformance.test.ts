import { storeConformance } from "@cocoon-net/store-testkit";
import { MemoryDatabase, MemoryLink, openMemoryStore } from "../src/index.ts";

const database = new MemoryDatabase();

storeConformance({
  name: "store-memory",
  open: async ({ prefix }) => openMemoryStore({ database, prefix }),
  openFaulty: async ({ prefix }) => {
    const faults = new MemoryLink();
    return { faults, store: openMemoryStore({ database, prefix, link: faults }) };
  },
  forgetHistory: async () => database.compact(),
});
