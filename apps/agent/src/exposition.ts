/** Prometheus's text format, version 0.0.4. */

export function gauge(name: string, help: string, value: number): string {
  return family(name, "gauge", help, { "": value });
}

export function family(
  name: string,
  type: "counter" | "gauge",
  help: string,
  samples: Readonly<Record<string, number>>,
): string {
  const lines = Object.entries(samples).map(([labels, value]) => `${name}${labels} ${value}\n`);
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

export interface Histogram {
  /** Observations up to each bound, those below it included. */
  readonly buckets: readonly { readonly upTo: number; readonly count: number }[];
  readonly count: number;
  readonly sum: number;
}

/** @param samples by labels, without braces: `action="X"` */
export function histogram(name: string, help: string, samples: Readonly<Record<string, Histogram>>): string {
  const lines = Object.entries(samples).flatMap(([labels, { buckets, count, sum }]) => {
    const braced = labels === "" ? "" : `{${labels}}`;
    return [
      ...buckets.map(({ upTo, count: within }) => {
        const bound = `le="${upTo === Number.POSITIVE_INFINITY ? "+Inf" : upTo}"`;
        return `${name}_bucket{${labels === "" ? bound : `${labels},${bound}`}} ${within}\n`;
      }),
      `${name}_sum${braced} ${sum}\n`,
      `${name}_count${braced} ${count}\n`,
    ];
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} histogram\n${lines.join("")}`;
}

/** Samples by one label, whose values are fixed words. */
export function by(label: string, counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(counts).map(([value, count]) => [labels({ [label]: value }), count]),
  );
}

/** `{platform="gke",action="instances.get"}`; the values have nothing to be escaped. */
export function labels(values: Readonly<Record<string, string>>): string {
  return `{${inner(values)}}`;
}

export function inner(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}="${value}"`)
    .join(",");
}
