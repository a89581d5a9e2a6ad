import { InvalidError } from "@cocoon-net/core";
import type { Moment } from "./timeline.ts";

const kinds = [
  "throttle",
  "error5xx",
  "refuse",
  "hang",
  "lost-answer",
  "late-hang",
  "late-5xx",
  "half-done",
  "fails-later",
  "empty-list",
  "stale-list",
] as const;

/**
 * What goes wrong. Nothing is applied: `throttle`, refused as too many; `error5xx`, an HTML 502; `refuse`, with
 * {@link FaultRule.code}; `hang`, not answered either.
 * Applied: `lost-answer`, the connection closes without one; `late-hang`, it stays open without one; `late-5xx`, answered
 * as if the backend had run out of time.
 * In part: `half-done`, half of a request for several things, answered as an error; `fails-later`, accepted, and the
 * asynchronous change then fails.
 * Reads: `empty-list` shows nothing; `stale-list` shows what was.
 */
export type FaultKind = (typeof kinds)[number];

/** A rule for going wrong on purpose. */
export interface FaultRule {
  readonly kind: FaultKind;
  /** An action's name; left out = every action that changes something, or, for the list kinds, that reads. */
  readonly action?: string;
  /** How many matching requests it hits. Default 1; with a probability, no end. */
  readonly times?: number;
  /** How many matching requests pass before the first can be hit. Default 0. */
  readonly after?: number;
  /** Of hitting a matching request, by the simulator's seed. Default 1. */
  readonly probability?: number;
  /** `throttle`: what the `Retry-After` header says. Default: as the simulator's options have it. */
  readonly retryAfterSeconds?: number;
  /** `refuse`: the vendor's code. `fails-later`: the code that an operation ends with. */
  readonly code?: string;
  /** `stale-list`: how old, in milliseconds. Default: as things were when the rule was made. */
  readonly staleMs?: number;
}

/** A fault that hits a request. */
export interface Fault extends FaultRule {
  /** When its rule was made. */
  readonly madeAt: Moment;
}

interface Entry {
  readonly fault: Fault;
  readonly onHit?: () => void;
  skip: number;
  left: number;
}

export interface FaultsOptions {
  readonly actions: ReadonlySet<string>;
  readonly isRead: (action: string) => boolean;
  /** Codes that `refuse` takes; undefined = any. */
  readonly codes?: ReadonlySet<string>;
  readonly random: () => number;
  readonly now: () => Moment;
}

/** A request that a test has stopped at. */
export interface HeldRequest {
  /** Resolves when it has come. */
  readonly reached: Promise<void>;
  /** Ends waiting for it; the request itself never gets an answer. */
  end(): void;
}

/** The rules of a simulator, in the order that they were made in: the first that hits counts. */
export class Faults {
  readonly #options: FaultsOptions;
  #rules: Entry[] = [];

  constructor(options: FaultsOptions) {
    this.#options = options;
  }

  /** Those that can still hit. */
  get rules(): readonly FaultRule[] {
    return this.#rules
      .filter(({ left }) => left > 0)
      .map(({ fault: { madeAt: _, ...rule }, left }) =>
        Number.isFinite(left) ? { ...rule, times: left } : rule,
      );
  }

  /** @throws {InvalidError} when it could never hit */
  add(rule: FaultRule): void {
    const { actions, codes, now } = this.#options;
    if (rule.action !== undefined && !actions.has(rule.action)) {
      throw new InvalidError(`a fault cannot hit ${rule.action}: there is no such action`, {
        hint: `use one of ${[...actions].join(", ")}`,
      });
    }
    if (rule.kind === "refuse" && (rule.code === undefined || codes?.has(rule.code) === false)) {
      throw new InvalidError(`a fault cannot refuse with the code "${rule.code ?? ""}"`, {
        hint: codes === undefined ? "give the vendor's code" : `use one of ${[...codes].join(", ")}`,
      });
    }
    const { times = rule.probability === undefined ? 1 : Number.POSITIVE_INFINITY } = rule;
    this.#rules.push({ fault: { ...rule, madeAt: now() }, skip: rule.after ?? 0, left: times });
  }

  clear(): void {
    this.#rules = [];
  }

  /** Stops at the n-th request from now, from 0, that changes something: before it is applied, or after. */
  hold(n: number, when: "before" | "after"): HeldRequest {
    const { promise, resolve } = Promise.withResolvers<void>();
    const kind = when === "before" ? "hang" : "late-hang";
    const fault: Fault = { kind, madeAt: this.#options.now() };
    const entry: Entry = { fault, onHit: resolve, skip: n, left: 1 };
    this.#rules.push(entry);
    return {
      reached: promise,
      end: () => {
        this.#rules = this.#rules.filter((other) => other !== entry);
      },
    };
  }

  /** The fault that hits this request; counts it as hit. */
  take(action: string): Fault | undefined {
    const isRead = this.#options.isRead(action);
    for (const entry of this.#rules) {
      const { fault } = entry;
      if (entry.left === 0 || (fault.action ?? action) !== action) continue;
      if (fault.action === undefined && isRead !== isOfReads(fault.kind)) continue;
      if (entry.skip > 0) {
        entry.skip--;
        continue;
      }
      if (fault.probability !== undefined && this.#options.random() >= fault.probability) continue;
      entry.left--;
      entry.onHit?.();
      return fault;
    }
    return undefined;
  }
}

function isOfReads(kind: FaultKind): boolean {
  return kind === "empty-list" || kind === "stale-list";
}

const numbers = ["times", "after", "probability", "retryAfterSeconds", "staleMs"] as const;

/** Reads a rule from JSON. @throws {InvalidError} naming what is wrong */
export function readFaultRule(json: unknown): FaultRule {
  if (typeof json !== "object" || json === null) throw new InvalidError("a fault is not a JSON object");
  const fields = new Map<string, unknown>(Object.entries(json));
  const kind = kinds.find((known) => known === fields.get("kind"));
  if (kind === undefined) {
    throw new InvalidError(`a fault's kind is ${JSON.stringify(fields.get("kind"))}`, {
      hint: `use one of ${kinds.join(", ")}`,
    });
  }
  const rule: { -readonly [Name in keyof FaultRule]: FaultRule[Name] } = { kind };
  for (const [name, value] of fields) {
    const numeric = numbers.find((known) => known === name);
    if (name === "kind") continue;
    if ((name === "action" || name === "code") && typeof value === "string") rule[name] = value;
    else if (numeric !== undefined && typeof value === "number" && value >= 0) rule[numeric] = value;
    else {
      throw new InvalidError(`a fault's ${name} is ${JSON.stringify(value)}`, {
        hint: `action and code are strings; ${numbers.join(", ")} are numbers`,
      });
    }
  }
  return rule;
}
