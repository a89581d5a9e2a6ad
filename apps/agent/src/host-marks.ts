import { parseCidr, type RecordSchema, recordSchema as z } from "@cocoon-net/core";
import {
  type HostMark,
  type HostPlan,
  type HostSetUp,
  type HostSetUpOptions,
  openHostNetwork,
  setUpHost,
} from "@cocoon-net/host-linux";
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

/** Sets the host up; what it makes is on record before it is made. A gateway of before, which is on record, goes. */
export async function setUpThisHost(
  plan: HostPlan,
  state: StateDirectory,
  options: HostSetUpOptions,
): Promise<HostSetUp> {
  const known = await readHostMarks(state);
  const write = (made: readonly HostMark[]): Promise<void> =>
    replaceFile(state.hostPath, `${JSON.stringify({ made }, null, 2)}\n`);
  const gateway = `${plan.gateway}/${parseCidr(plan.subnet).prefix}`;
  const made = known.filter((mark) => mark.kind !== "address" || mark.address === gateway);
  const removed = await removeAddresses(
    known.filter((mark) => !made.includes(mark)),
    options,
  );
  if (made.length < known.length) await write(made);
  const onMake = async (mark: HostMark): Promise<void> => {
    if (made.some((one) => isSame(one, mark))) return;
    made.push(mark);
    await write(made);
  };
  const { changes, warnings } = await setUpHost(plan, { ...options, onMake });
  return { changes: [...removed, ...changes], warnings };
}

/** First of all: the kernel takes others of the same subnet off with it. */
async function removeAddresses(
  marks: readonly HostMark[],
  { network: given, signal }: HostSetUpOptions,
): Promise<string[]> {
  if (marks.length === 0) return [];
  await using own = given === undefined ? openHostNetwork() : undefined;
  const network = given ?? own;
  const changes: string[] = [];
  for (const mark of marks) {
    if (mark.kind !== "address") continue;
    const { address, device } = mark;
    if ((await network?.getLink({ name: device }, { signal })) === undefined) continue;
    if (await network?.deleteAddress(address, device, { signal })) {
      changes.push(`removed address ${address} from ${device}`);
    }
  }
  return changes;
}

/** Of a file that was replaced several times, the text before the first time is what was found. */
function isSame(known: HostMark, mark: HostMark): boolean {
  if (known.kind === "conflist" && mark.kind === "conflist") return known.path === mark.path;
  return JSON.stringify(known) === JSON.stringify(mark);
}
