/** What every story must have shown, in this order. */
export const keyLines: readonly RegExp[] = [
  /controller-[ab] leads the controllers/,
  /n1 is up with 172\.20\.0\.0\/24/,
  /n2 is up with 172\.20\.1\.0\/24/,
  /n3 is up with 172\.20\.2\.0\/24/,
  /n3-vm1 got 172\.20\.2\.\d+, n3-vm2 got 172\.20\.2\.\d+/,
  /every lease is in its node's leases\.json and in the store/,
  /n2 +│ ready +│ 172\.20\.1\.0\/24 │ 172\.20\.1\.\d+ 52:54:00:00:00:0[34] n2-vm[12]/,
  /172\.20\.0\.\d+ reaches 172\.20\.2\.\d+ and 172\.20\.1\.\d+/,
  /172\.20\.1\.\d+ still answers: a zombie/,
  /n2 is silent; nothing is done to 172\.20\.1\.0\/24 yet/,
  /172\.20\.1\.0\/24 is taken from n2 until \S+: instance i-n2 is stopped/,
  /fenced after [\d.]+ s: 172\.20\.1\.\d+ no longer answers/,
  /172\.20\.1\.0\/24 is free after [\d.]+ s/,
  /n4 is up with 172\.20\.1\.0\/24/,
  /n4-vm1 got 172\.20\.1\.\d+ and answers/,
  /n2 +│ left +│ - +│ -/,
  /the story is over and every step held: join .* death → suspect .* → fenced .* → free/,
  /cleaning up/,
];

/** The key lines that the output lacks, looked for in their order. */
export function missingLines(output: string): RegExp[] {
  let rest = output;
  return keyLines.filter((line) => {
    const found = line.exec(rest);
    if (found) rest = rest.slice(found.index);
    return !found;
  });
}
