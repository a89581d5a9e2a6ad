import { describe, it } from "vitest";
import { applies, type CheckGroup, runCheck, type StoreUnderTest } from "./check.ts";
import { coreTransactions } from "./checks/core-transactions.ts";
import { deadlines } from "./checks/deadlines.ts";
import { history } from "./checks/history.ts";
import { lostAnswers } from "./checks/lost-answers.ts";
import { namespaces } from "./checks/namespaces.ts";
import { processes } from "./checks/processes.ts";
import { reads } from "./checks/reads.ts";
import { sessions } from "./checks/sessions.ts";
import { stoppedServer } from "./checks/stopped-server.ts";
import { transactions } from "./checks/transactions.ts";
import { watches } from "./checks/watches.ts";
import type { Faults } from "./faults.ts";

/** All that the suite checks, in the order in which a new backend is best built. */
export const checkGroups: readonly CheckGroup[] = [
  reads,
  transactions,
  namespaces,
  watches,
  sessions,
  deadlines,
  lostAnswers,
  coreTransactions,
  processes,
  history,
  stoppedServer,
];

/** No check takes this long on a backend that is in order. */
const checkTimeoutMs = 90_000;

/**
 * Registers the whole suite with vitest. Checks run concurrently, each under a prefix of its own; servers
 * are started by the caller, in `beforeAll`.
 */
export function storeConformance<Path extends Faults>(subject: StoreUnderTest<Path>): void {
  describe(`${subject.name}: conformance`, () => {
    for (const group of checkGroups) registerChecks(group, subject);
  });
}

/** Registers one group, for working on one part of a backend; nothing when `subject` has not what its checks need. */
export function registerChecks<Path extends Faults>(group: CheckGroup, subject: StoreUnderTest<Path>): void {
  const { name, alone = false } = group;
  const checks = group.checks.filter((check) => applies(check, subject));
  if (checks.length === 0) return;
  describe(name, { concurrent: !alone }, () => {
    for (const check of checks) it(check.name, () => runCheck(check, subject), checkTimeoutMs);
  });
}
