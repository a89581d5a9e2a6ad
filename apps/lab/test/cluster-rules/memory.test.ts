import { MemoryDatabase, MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";
import { clusterRules } from "./cluster-rules.ts";

const database = new MemoryDatabase();

clusterRules(
  {
    name: "memory",
    open: async ({ prefix, via }) => openMemoryStore({ database, prefix, ...(via ? { link: via } : {}) }),
    faults: () => new MemoryLink(),
  },
  { modelRuns: 100 },
);
