import { globSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const root = new URL("../../../", import.meta.url).pathname;
const read = (path: string): string => readFileSync(root + path, "utf8");

const rows = [
  ...read("docs/catalogue.md").matchAll(/^\| (\d+) \| .* \| (?:`(.*)`: .*|.*) \| (?:`(.*)`: (.*)|—) \|$/gm),
];
/** What a row says of its test, as the test's comment must say it. */
const told = rows.flatMap(([, number, guard, path, title]) => (path ? [{ number, guard, path, title }] : []));

/** Every comment of a test that is in the catalogue, with what follows it. */
const marks = globSync("{apps,packages}/*/test/**/*.ts", { cwd: root }).flatMap((path) =>
  [...read(path).matchAll(/\/\/ Catalogue (\d+)\. Guard: (\S+), ([^:]+):/g)].map((match) => {
    const [, number = "", guard = "", where = ""] = match;
    return { number, guard, where, path, below: match.input.slice(match.index, match.index + 600) };
  }),
);

test("the catalogue says something of each of the 30 disasters", () => {
  const numbers = new Set(rows.map(([, number]) => Number(number)));
  expect([...numbers]).toEqual(Array.from({ length: 30 }, (_, index) => index + 1));
});

test("each row of the catalogue has its test, and each test that names its row is in it", () => {
  const isOf = (mark: (typeof marks)[number], row: (typeof told)[number]): boolean =>
    [mark.number, mark.guard, mark.path].join() === [row.number, row.guard, row.path].join() &&
    mark.below.includes(row.title ?? "");
  expect(told.filter((row) => !marks.some((mark) => isOf(mark, row)))).toEqual([]);
  expect(marks.filter((mark) => !told.some((row) => isOf(mark, row)))).toEqual([]);
});

test("each guard is where its test says", () => {
  const isThere = ({ guard, where }: (typeof marks)[number]): boolean =>
    read(guard).includes(where.replace(/^.*\./, ""));
  expect(marks.filter((mark) => !isThere(mark))).toEqual([]);
});
