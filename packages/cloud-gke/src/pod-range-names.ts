/** Secondary range, shared by all nodes of a subnetwork, that node blocks are taken from. */
export const podRange = "cocoon-pods";

/** Or a further one: the API does not let a range grow. */
const pattern = /^cocoon-pods(-[1-9]\d*)?$/;

export function isPodRange(rangeName: string | undefined): boolean {
  return rangeName !== undefined && pattern.test(rangeName);
}

/** The name of the next one: `cocoon-pods`, `cocoon-pods-2`, … */
export function nextPodRange(taken: readonly string[]): string {
  if (!taken.includes(podRange)) return podRange;
  for (let n = 2; ; n++) {
    const name = `${podRange}-${n}`;
    if (!taken.includes(name)) return name;
  }
}
