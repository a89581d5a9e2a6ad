import type { Grant } from "./decision.ts";
import type { Journal } from "./journal.ts";
import type { OrderedNetwork } from "./ordered-network.ts";
import type { Clock } from "./ports.ts";

/** What came of a grant: what went wrong; undefined when nothing did. */
export interface Secured {
  readonly journalError: unknown;
  readonly routeError: unknown;
}

interface Waiting<Job> {
  readonly job: Job;
  readonly grant: Grant;
}

/** A renewal trusts that its route is still in when it is not older than this. */
const routeTrustMs = 60_000;
/** When a batch had so many grants, the next one lets more come together for so long. */
const gathering: readonly { readonly grants: number; readonly ms: number }[] = [
  { grants: 16, ms: 5 },
  { grants: 4, ms: 2 },
];
const none: ReadonlyMap<string, unknown> = new Map();
const fine: Secured = { journalError: undefined, routeError: undefined };

/**
 * G2: on disk and routed before the ACK. The grants of one turn of the event loop go the way together: one write of the
 * journal, one batch of routes. When they are many, those of the next milliseconds too, for what a batch costs is more
 * than what a grant adds to it.
 */
export class GrantBatches<Job> {
  readonly #journal: Journal;
  readonly #network: OrderedNetwork;
  readonly #clock: Clock;
  readonly #settle: (job: Job, grant: Grant, secured: Secured) => void;
  #waiting: Waiting<Job>[] = [];
  #gatherMs = 0;

  /** @param settle called for each grant, in order; must not throw */
  constructor(
    journal: Journal,
    network: OrderedNetwork,
    clock: Clock,
    settle: (job: Job, grant: Grant, secured: Secured) => void,
  ) {
    this.#journal = journal;
    this.#network = network;
    this.#clock = clock;
    this.#settle = settle;
  }

  /** @returns what resolves when the grants of the batch are settled, for the first one of a batch */
  add(job: Job, grant: Grant): Promise<void> | undefined {
    if (this.#waiting.push({ job, grant }) > 1) return undefined;
    return new Promise((resolve, reject) => {
      const secure = (): void => void this.#secure().then(resolve, reject);
      if (this.#gatherMs > 0) setTimeout(secure, this.#gatherMs);
      else process.nextTick(secure);
    });
  }

  async #secure(): Promise<void> {
    const batch = this.#waiting;
    this.#waiting = [];
    this.#gatherMs = gathering.find(({ grants }) => batch.length >= grants)?.ms ?? 0;
    const records = batch.flatMap(({ grant }) => grant.records);
    const now = this.#clock.now();
    const unrouted = batch.filter(({ grant }) => !isRouted(grant, now)).map(({ grant }) => grant.lease.ip);
    const journalled = this.#journal.append(records).then(
      () => undefined,
      (error: unknown) => error,
    );
    const failures = unrouted.length === 0 ? none : await this.#network.addRoutes(unrouted);
    const journalError = await journalled;
    for (const { job, grant } of batch) {
      const routeError = failures.get(grant.lease.ip);
      const isFine = journalError === undefined && routeError === undefined;
      this.#settle(job, grant, isFine ? fine : { journalError, routeError });
    }
  }
}

/** A renewal sets the route again, should somebody have taken it out, but not more often than once a minute. */
function isRouted({ renews, leaseMs }: Grant, now: number): boolean {
  if (renews === undefined) return false;
  return Math.abs(now - (renews.expiry - leaseMs)) < routeTrustMs;
}
