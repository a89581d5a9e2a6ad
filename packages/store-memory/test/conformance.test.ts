import { MemoryDatabase, MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";
import { storeConformance } from "@cocoon-net/store-testkit";

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
