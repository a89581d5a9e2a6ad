import {
  type CallOptions,
  contains,
  type Entry,
  keys,
  NotFoundError,
  parseAddress,
  parseCidr,
  readAll,
  type Store,
} from "@cocoon-net/core";
import { formatDuration } from "../duration.ts";

/** One way to look at the cluster. */
export interface View {
  /** What it is read from; a change there makes it out of date. */
  readonly prefixes: readonly string[];
  read(store: Store, options: CallOptions): Promise<Picture>;
}

/** What was seen at one moment. */
export interface Picture {
  /** For programs; stable. */
  readonly data: unknown;
  /** For people. Times in it are relative to the call. */
  text(): string;
}

/** Everything under a prefix, decoded: only what `read` gives is kept. */
export async function readPrefix<T>(
  store: Store,
  prefix: string,
  read: (name: string, entry: Entry) => T,
  options: CallOptions,
): Promise<readonly T[]> {
  const decoded = (entry: Entry): T => read(entry.key.slice(prefix.length), entry);
  return (await readAll(store, prefix, decoded, options)).items;
}

/** Whether a block or an address lies in a block; everything does where none is given. */
export function within(block: string | undefined, flag: string): (text: string) => boolean {
  if (block === undefined) return () => true;
  const outer = parseCidr(block, flag);
  return (text) =>
    contains(outer, text.includes("/") ? parseCidr(text) : { base: parseAddress(text), prefix: 32 });
}

export function noSuchNode(
  name: string,
  store: Store,
  hint = "`cocoon-net cluster nodes` lists them",
): NotFoundError {
  return new NotFoundError(`there is no node "${name}" in ${store.label}`, { hint });
}

/** An empty table must not mean a name that is misspelt. @throws {NotFoundError} */
export async function requireNode(
  name: string | undefined,
  store: Store,
  { signal, timeoutMs }: CallOptions,
): Promise<void> {
  if (name === undefined) return;
  const { entry } = await store.get(keys.node(name), { signal, timeoutMs });
  if (!entry) throw noSuchNode(name, store);
}

export function ago(time: string): string {
  return `${formatDuration(Date.now() - Date.parse(time))} ago`;
}

export function until(time: string): string {
  const ms = Date.parse(time) - Date.now();
  return ms > 0 ? formatDuration(ms) : "ended";
}
