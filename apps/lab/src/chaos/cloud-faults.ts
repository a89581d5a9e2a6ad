import type { FaultRule } from "@cocoon-net/cloud-testkit";
import type { Fault } from "./disturbance.ts";

/** On whatever changes something; those with an action, on reads. */
const rules: readonly FaultRule[] = [
  { kind: "throttle", probability: 0.5 },
  { kind: "throttle", probability: 0.5, action: "DescribeNetworkInterfaces" },
  { kind: "error5xx", probability: 0.5 },
  { kind: "error5xx", probability: 0.5, action: "DescribeNetworkInterfaces" },
  { kind: "error5xx", probability: 0.5, action: "DescribeInstances" },
  { kind: "lost-answer", probability: 0.5 },
  { kind: "late-5xx", probability: 0.5 },
  { kind: "late-hang", probability: 0.2 },
  { kind: "hang", probability: 0.2 },
  { kind: "half-done", probability: 0.3 },
  { kind: "fails-later", probability: 0.3 },
];

/** The cloud refuses, errs, or does what it is asked and does not say so. */
export const failingCloud: Fault = async ({ cluster, dice, busy }) => {
  const rule = dice.pick(rules);
  if (!rule || busy.has("cloud")) return undefined;
  const { simulator } = cluster.fabric;
  simulator.injectFault(rule);
  return {
    what: [rule.kind, ...(rule.action === undefined ? [] : [`of ${rule.action}`])].join(" "),
    on: "cloud",
    lastsMs: dice.between(3_000, 20_000),
    async end() {
      simulator.clearFaults();
      return undefined;
    },
  };
};

export const slowCloud: Fault = async ({ cluster, dice, busy }) => {
  if (busy.has("cloud")) return undefined;
  cluster.cloudPace.times = dice.between(5, 30);
  return {
    what: "slow",
    on: "cloud",
    lastsMs: dice.between(5_000, 20_000),
    async end() {
      cluster.cloudPace.times = 1;
      return undefined;
    },
  };
};
