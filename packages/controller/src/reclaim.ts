import type { IntentLog } from "./intent-log.ts";
import type { Next, RunnableJob } from "./intent-run.ts";
import { fence } from "./reclaim-fence.ts";
import type { ReclaimIntent } from "./reclaim-intent.ts";
import { awaitEnd, release } from "./reclaim-release.ts";
import { type ReclaimContext, ReclaimWork } from "./reclaim-work.ts";

/**
 * Takes a node's block back, from wherever the intent stands: fence → quarantine → release → wait → free.
 *
 * 1. Every step may be run again: each write compares the leadership, the intent's revision, and the key that still
 *    makes the block this reclaim's to touch: `subnets/{node}` at its epoch before the quarantine, `quarantine/…`
 *    after it.
 * 2. The first cloud request that changes something, or the first address that is taken from the node on record, is
 *    written down only while `alive/{node}` is absent. Before that a node that speaks again gets everything back; after
 *    it the reclaim goes through. One that was drained has nothing left to lose, and may speak.
 * 3. Nothing is freed before the fence was read back (G5), the cloud's resources are gone, and the quarantine was
 *    waited for in full by the clock of the one who frees. A forced reclaim may do without the first two, and waits for
 *    the leases instead (G6).
 * 4. Moves of the node end before its fence, which takes in the addresses that are moved to it: from then on nobody serves
 *    them. Where no fence was verified, they are on record as its instance's to give back. The block is not free before
 *    those that are moved away have come back.
 * 5. What frees, and each request to the cloud, is noted only while `pause` is absent.
 */
export class Reclaim implements RunnableJob<ReclaimIntent> {
  readonly log: IntentLog<ReclaimIntent>;
  readonly retryEvent = "reclaim-retry";
  readonly #work: ReclaimWork;
  /** When this process first knew the block to be in quarantine. */
  #quarantinedAt: number | undefined;

  constructor(log: IntentLog<ReclaimIntent>, context: ReclaimContext) {
    this.log = log;
    this.#work = new ReclaimWork(log, context);
  }

  describe(): string {
    const { step, subnet, node } = this.log.intent;
    return `${step} ${subnet} of ${node}`;
  }

  async advance(): Promise<Next> {
    const work = this.#work;
    const { clock, recovering } = work.context;
    if (recovering()) return "held";
    const facts = await work.look();
    if (!facts) return "ended";
    if (work.intent.step === "fencing") return fence(work, facts);
    this.#quarantinedAt ??= clock.monotonic();
    if (work.intent.step === "releasing") return release(work, facts);
    return awaitEnd(work, facts, this.#quarantinedAt);
  }
}
