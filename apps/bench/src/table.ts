import { type Figure, isMet, ratioOf, type Unit } from "./figure.ts";

export interface TableWords {
  /** What the figures are of. */
  readonly subject: string;
  /** What ours is beside. */
  readonly beside: string;
}

/** The figures as one table of plain text. */
export function formatTable(
  figures: readonly Figure[],
  { subject, beside }: TableWords = { subject: "store", beside: "raw client" },
): string {
  const header = [subject, "figure", "cocoon-net", beside, "ratio", "CPU ratio", "aim", "met"];
  return alignTable([header, ...figures.map(cells)], 2);
}

/** Rows as lines of plain text, the first one underlined; what is not text stands to the right of its column. */
export function alignTable(rows: readonly (readonly string[])[], textColumns: number): string {
  const columns = rows[0] ?? [];
  const widths = columns.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) =>
        column < textColumns ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join("  ")
      .trimEnd(),
  );
  lines.splice(1, 0, widths.map((width) => "-".repeat(width)).join("  "));
  return lines.join("\n");
}

function cells(figure: Figure): string[] {
  const { store, what, unit, ours, raw, aim, cpu } = figure;
  const ratio = ratioOf(figure);
  const met = isMet(figure);
  return [
    store,
    what,
    formatValue(ours, unit),
    raw === undefined ? "" : formatValue(raw, unit),
    ratio === undefined ? "" : `${ratio.toFixed(2)}×`,
    cpu === undefined || cpu.raw === 0 ? "" : `${(cpu.ours / cpu.raw).toFixed(2)}×`,
    aim === undefined ? "" : "most" in aim ? `≤ ${formatValue(aim.most, unit)}` : `≤ ${aim.mostTimes}×`,
    met === undefined ? "" : met ? "yes" : "NO",
  ];
}

export function formatValue(value: number, unit: Unit): string {
  if (!Number.isFinite(value)) return "never";
  switch (unit) {
    case "ms":
      return value >= 1_000 ? `${(value / 1_000).toFixed(2)} s` : `${Math.round(value)} ms`;
    case "bytes":
      return formatBytes(value);
    case "share":
      return `${(value * 100).toFixed(1)} %`;
    case "perSecond":
      return `${formatCount(value)}/s`;
    case "count":
      return formatCount(value);
  }
}

function formatCount(value: number): string {
  const digits = Number.isInteger(value) || value >= 100 ? 0 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function formatBytes(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(0)} MB`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)} kB`;
  return `${Math.round(value)} B`;
}
