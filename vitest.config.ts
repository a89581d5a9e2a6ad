import { defineConfig } from "vitest/config";
import { ClosingLine } from "./scripts/closing-line.ts";

const conditions = ["@cocoon-net/source", "node", "import", "default"];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "apps/*/test/**/*.test.ts", "examples/*/test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    maxWorkers: 2,
    retry: 0,
    reporters: ["default", new ClosingLine()],
  },
});
