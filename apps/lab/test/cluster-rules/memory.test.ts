import { MemoryDatabase, MemoryLink, openMemoryStore } from "@cocoon-net/store-memory";
import { clusterRules } from "./cluster-rules.ts";

const database = new MemoryDatabase();

clusterRules(
  {
    name: "memory",
    open: async ({ prefix }) => openMemoryStore({ database, prefix }),
    openFaulty: async ({ prefix }) => {
      const faults = new MemoryLink();
      return { faults, store: openMemoryStore({ database, prefix, link: faults }) };
    },
  },
  { modelRuns: 100 },
);
