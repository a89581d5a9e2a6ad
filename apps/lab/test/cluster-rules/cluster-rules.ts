import type { Faults, StoreUnderTest } from "@cocoon-net/store-testkit";
import { describe } from "vitest";
import { configRules } from "./config-rules.ts";
import { electionRules } from "./election-rules.ts";
import { heartbeatRules } from "./heartbeat-rules.ts";
import { ownershipRules } from "./ownership-rules.ts";
import { reassertionRules } from "./reassertion-rules.ts";
import { recoveryRules } from "./recovery-rules.ts";
import { registerRules } from "./register-rules.ts";
import { registrationRules } from "./registration-rules.ts";
import { ruleOn } from "./rule.ts";
import { stormRules } from "./storm-rules.ts";

export interface ClusterRulesOptions {
  /** Random sequences that are compared with the model of ownership; default 15. */
  readonly modelRuns?: number;
  /** Where processes of their own open the store; without it those rules are left out. */
  readonly url?: (prefix: string) => string;
}

/** The rules of a cluster, which core writes once and which must hold on every store. */
export function clusterRules<Path extends Faults>(
  subject: StoreUnderTest<Path>,
  options: ClusterRulesOptions = {},
): void {
  const rule = ruleOn(subject);
  describe(`${subject.name}: the cluster's config`, { concurrent: true }, () => configRules(rule));
  describe(`${subject.name}: registering`, { concurrent: true }, () => {
    registerRules(rule);
    ownershipRules(rule, options.modelRuns ?? 15);
  });
  describe(`${subject.name}: a registration`, { concurrent: true }, () => registrationRules(rule));
  describe(`${subject.name}: a store that has lost writes`, { concurrent: true }, () => {
    recoveryRules(rule);
    reassertionRules(rule);
  });
  describe(`${subject.name}: the heartbeat`, { concurrent: true }, () => heartbeatRules(rule));
  describe(`${subject.name}: the election`, { concurrent: true }, () => electionRules(rule));
  describe(`${subject.name}: many at once`, () => stormRules(rule, options.url));
}
