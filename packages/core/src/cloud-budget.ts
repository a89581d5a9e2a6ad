import { type BudgetClock, CallBucket, type CallRate } from "./cloud-bucket.ts";
import { Gate } from "./cloud-gate.ts";

/** What the cloud counts together. */
export interface BucketName {
  readonly platform: string;
  /** Access key, project, or what else the cloud counts by. */
  readonly account: string;
  readonly region: string;
  /** `read`, `write`, or a class of the vendor's that has its own rate. */
  readonly class: string;
}

export interface CloudBudgetOptions {
  /** Rates by platform and class, in place of the drivers' own. */
  readonly rates?: Readonly<Record<string, Readonly<Record<string, Partial<CallRate>>>>> | undefined;
  readonly clock?: BudgetClock;
  /** Uniform in [0, 1); default `Math.random`. */
  readonly random?: () => number;
}

/**
 * The requests that may be made to clouds. Everything in a process that is given the same budget shares its buckets,
 * one for each account, region and class, and its gates.
 */
export class CloudBudget {
  readonly #options: CloudBudgetOptions;
  readonly #buckets = new Map<string, CallBucket>();
  readonly #gates = new Map<string, Gate>();

  constructor(options: CloudBudgetOptions = {}) {
    this.#options = options;
  }

  /**
   * The bucket of that name; made with `defaults` when it is asked for first.
   *
   * @throws {InvalidError} when a rate is none
   */
  bucket(name: BucketName, defaults: CallRate): CallBucket {
    const key = JSON.stringify([name.platform, name.account, name.region, name.class]);
    const known = this.#buckets.get(key);
    if (known !== undefined) return known;
    const { rates, clock = systemClock, random = Math.random } = this.#options;
    const rate = { ...defaults, ...rates?.[name.platform]?.[name.class] };
    const made = new CallBucket(`${name.platform} ${name.class}`, rate, clock, random);
    this.#buckets.set(key, made);
    return made;
  }

  /** For what the cloud refuses to do side by side, e.g. in one VPC. */
  gate(name: string): Gate {
    let gate = this.#gates.get(name);
    if (gate === undefined) {
      gate = new Gate();
      this.#gates.set(name, gate);
    }
    return gate;
  }
}

const systemClock: BudgetClock = {
  now: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};
