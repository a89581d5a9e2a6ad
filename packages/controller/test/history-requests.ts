import type { Compare, TxnRequest } from "@cocoon-net/core";

interface Branch {
  readonly conditions: readonly Compare[];
  readonly puts: readonly string[];
  readonly deletes: readonly string[];
}

/** What a node writes about its subnet, and does not compare its epoch for (G3). */
export function faultsOfNode(node: string, request: TxnRequest): string[] {
  const faults: string[] = [];
  for (const { conditions, puts, deletes } of branchesOf(request)) {
    const writes = [...puts, ...deletes].filter((key) =>
      /^(pool|moved|nodes|alive|slots|subnets)\//.test(key),
    );
    const isFenced = conditions.some(
      (compare) =>
        compare.key === `subnets/${node}` &&
        ("modRevision" in compare || ("exists" in compare && !compare.exists)),
    );
    if (writes.length > 0 && !isFenced) faults.push(`G3: ${node} writes ${writes} without its epoch`);
  }
  return faults;
}

/** What a controller or an operator changes whatever it holds (G4), or before it has loaded all that it follows (G9). */
export function faultsOfWrite(who: string, request: TxnRequest, isLoading: boolean): string[] {
  const faults: string[] = [];
  for (const { conditions, puts, deletes } of branchesOf(request)) {
    const named = [...puts, ...deletes].filter((key) => /^(pool|moved|slots|subnets|nodes)\//.test(key));
    // A quarantine begins with a slot that is named.
    for (const key of [...named, ...deletes.filter((one) => one.startsWith("quarantine/"))]) {
      const isNamed = conditions.some(
        (compare) => compare.key === key && ("modRevision" in compare || "exists" in compare),
      );
      if (!isNamed) faults.push(`G4: ${who} writes ${key} whatever it holds`);
    }
    if (isLoading && named.length > 0) faults.push(`G9: ${who} writes ${named} before it has loaded`);
  }
  return faults;
}

function branchesOf(request: TxnRequest): Branch[] {
  return [request, ...(request.or ?? [])].map(({ if: conditions = [], then = [] }) => ({
    conditions,
    puts: then.flatMap((operation) => ("put" in operation ? [operation.put] : [])),
    deletes: then.flatMap((operation) => ("delete" in operation ? [operation.delete] : [])),
  }));
}
