/** The values that each of several settings can have, the default first. */
export type Choices<T> = { readonly [Name in keyof T]: readonly [T[Name], ...T[Name][]] };

/** Each setting as it is given, or its default. */
export function chosen<T extends object>(choices: Choices<T>, given: Partial<T>): T {
  const entries = Object.entries<readonly unknown[]>(choices).map(([name, values]) => [
    name,
    new Map<string, unknown>(Object.entries(given)).get(name) ?? values[0],
  ]);
  return Object.fromEntries(entries);
}
