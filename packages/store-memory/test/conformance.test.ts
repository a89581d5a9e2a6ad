import { MemoryDatabase, MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";
import { storeConformance } from "@cocoon-net/store-testkit";

const database = new MemoryDatabase();

storeConformance({
  name: "store-memory",
  open: async ({ prefix, via }) => openMemoryStore({ database, prefix, link: via }),
  faults: () => new MemoryLink(),
  forgetHistory: async () => database.compact(),
});
