/** `1 finding`, `3 findings`; `1 address`, `3 addresses` where the plural is given. */
export function counted(count: number, one: string, many: string = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
