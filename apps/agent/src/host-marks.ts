import { type RecordSchema, recordSchema as z } from "@cocoon-net/core";
import type { HostMark, HostPlan, HostSetUp, HostSetUpOptions } from "@cocoon-net/host-linux";
import { setUpHost } from "@cocoon-net/host-linux";
import { replaceFile } from "./durable-file.ts";
import { readRecord, type StateDirectory } from "./state-directory.ts";

const rule = z.object({
  table: z.oneOf(["filter", "nat"]),
  chain: z.string(),
  spec: z.array(z.string()),
});
const schema: RecordSchema<{ readonly made: readonly HostMark[] }> = z.object({
  made: z.array(
    z.union([
      z.object({ kind: z.literal("bridge"), name: z.string() }),
      z.object({ kind: z.literal("address"), address: z.string(), device: z.string() }),
      z.object({ kind: z.literal("rule"), rule }),
      z.object({
        kind: z.literal("conflist"),
        path: z.string(),
        bridge: z.string(),
        before: z.exactOptional(z.string()),
      }),
    ]),
  ),
});

/** What this node's set-up has made of the host, for `teardown`. Empty where the program before made it. */
export async function readHostMarks(state: StateDirectory): Promise<readonly HostMark[]> {
  return (await readRecord(state.hostPath, schema))?.made ?? [];
}

/** Sets the host up; what it makes is on record before it is made. */
export async function setUpThisHost(
  plan: HostPlan,
  state: StateDirectory,
  options: HostSetUpOptions,
): Promise<HostSetUp> {
  const made = [...(await readHostMarks(state))];
  const onMake = async (mark: HostMark): Promise<void> => {
    if (made.some((known) => isSame(known, mark))) return;
    made.push(mark);
    await replaceFile(state.hostPath, `${JSON.stringify({ made }, null, 2)}\n`);
  };
  return await setUpHost(plan, { ...options, onMake });
}

/** Of a file that was replaced several times, the text before the first time is what was found. */
function isSame(known: HostMark, mark: HostMark): boolean {
  if (known.kind === "conflist" && mark.kind === "conflist") return known.path === mark.path;
  return JSON.stringify(known) === JSON.stringify(mark);
}
