import { defineConfig } from "vitest/config";
import { ClosingLine } from "./scripts/closing-line.ts";
import { StoriesFirst } from "./scripts/stories-first.ts";

// Workspace packages are tested from their sources. Nothing but that condition may reach Node for what is not
// inlined: with "import" among them a CommonJS `require` gets ESM files, which breaks etcd3.
const source = "@cocoon-net/source";

export default defineConfig({
  resolve: { conditions: [source, "node", "import", "default"] },
  ssr: { resolve: { conditions: [source, "node"], externalConditions: [source] } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "apps/*/test/**/*.test.ts", "examples/*/test/**/*.test.ts"],
    // What is waited for has its own deadline; these are for what hangs, on a busy machine too.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Most tests wait for timers and servers more than they compute.
    maxWorkers: 3,
    maxConcurrency: 8,
    retry: 0,
    sequence: { sequencer: StoriesFirst },
    // A busy machine is no failure: what is waited for has time.
    expect: { poll: { timeout: 20_000, interval: 25 } },
    reporters: ["default", new ClosingLine()],
  },
});
