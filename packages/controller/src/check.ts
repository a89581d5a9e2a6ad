import { type CheckSources, gatherFacts } from "./check-facts.ts";
import { checkClouds } from "./cloud-rules.ts";
import type { Finding } from "./finding.ts";
import { checkStore, type StoreRuleOptions } from "./store-rules.ts";

export interface CheckOptions extends CheckSources, Partial<StoreRuleOptions> {}

export interface CheckReport {
  /** RFC 3339, UTC. */
  readonly time: string;
  readonly findings: readonly Finding[];
  /** What could not be looked at, one line each. Empty when the check was whole. */
  readonly unchecked: readonly string[];
  readonly looked: { readonly nodes: number; readonly leases: number; readonly resources: number };
}

/**
 * Holds the store, the cloud and the nodes' records against each other. It reads only; what changes while it reads may
 * show up as a finding that the next check does not have.
 * @throws {NotFoundError} where there is no cluster; what the store throws
 */
export async function checkCluster(options: CheckOptions): Promise<CheckReport> {
  const { intentMaxMs = 3_600_000, overdueMs = 3_600_000 } = options;
  const facts = await gatherFacts(options);
  const resources = [...facts.resources.values()].reduce((sum, list) => sum + list.length, 0);
  return {
    time: new Date(facts.now).toISOString(),
    findings: [...checkStore(facts, { intentMaxMs, overdueMs }), ...checkClouds(facts)],
    unchecked: facts.unchecked,
    looked: { nodes: facts.subnets.size, leases: facts.leases.size, resources },
  };
}
