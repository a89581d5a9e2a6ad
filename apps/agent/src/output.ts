import Table from "cli-table3";
import { stringify } from "yaml";

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
}

/** Data for programs. */
export function formatData(data: unknown, format: "json" | "yaml"): string {
  return format === "json" ? JSON.stringify(data, null, 2) : stringify(data).trimEnd();
}

/** Rows under their titles, without lines. */
export function renderTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const table = new Table({
    head: columns.map((column) => column.title),
    style: { head: [], border: [], "padding-left": 0, "padding-right": 2 },
    chars: plain,
  });
  for (const row of rows) table.push(columns.map((column) => column.value(row)));
  return table
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}

const plain = Object.fromEntries(
  [
    "top",
    "top-mid",
    "top-left",
    "top-right",
    "bottom",
    "bottom-mid",
    "bottom-left",
    "bottom-right",
    "left",
    "left-mid",
    "mid",
    "mid-mid",
    "right",
    "right-mid",
    "middle",
  ].map((name) => [name, ""]),
);

/** `Label:  value` lines with the values aligned. */
export function renderFields(fields: readonly (readonly [label: string, value: string])[]): string {
  const width = Math.max(...fields.map(([label]) => label.length)) + 2;
  return fields.map(([label, value]) => `${`${label}:`.padEnd(width)}${value}`).join("\n");
}
