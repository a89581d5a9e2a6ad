import { CocoonError } from "@cocoon-net/core";

/**
 * What is logged of an error. Clients of clouds and stores hang whole requests on theirs, with headers and keys. A stack
 * is for bugs: what was expected to fail, and what that was caused by, says all that an operator can use.
 */
export function loggedError(error: unknown, depth = 0, isBug = true): object {
  if (!(error instanceof Error)) return { message: String(error) };
  const { code, hint } = error as { code?: unknown; hint?: unknown };
  const unexpected = isBug && !(error instanceof CocoonError) && !("syscall" in error);
  return {
    type: error.name,
    message: error.message,
    ...(typeof code === "string" ? { code } : {}),
    ...(typeof hint === "string" ? { hint } : {}),
    ...(unexpected ? { stack: error.stack } : {}),
    ...(error.cause === undefined || depth === maxDepth
      ? {}
      : { cause: loggedError(error.cause, depth + 1, unexpected) }),
  };
}

const maxDepth = 5;
const secretName = /(SECRET|PASSWORD|PASSWD|TOKEN|ACCESS_KEY)/;
const hidden = "[secret]";

/**
 * Takes secrets out of a line: the values of environment variables that are named as such, the password of the store's
 * URL, and whatever stands where URLs and HTTP headers have one.
 */
export function redactor(env: NodeJS.ProcessEnv, store?: string): (line: string) => string {
  const values = new Set<string>();
  for (const [name, value] of Object.entries(env))
    if (value && secretName.test(name) && !name.endsWith("_FILE")) values.add(value);
  for (const url of [store, env.COCOON_NET_STORE]) {
    const password = /^[^/]*\/\/[^:@/]*:([^@/]*)@/.exec(url ?? "")?.[1];
    if (!password) continue;
    values.add(password);
    try {
      values.add(decodeURIComponent(password));
    } catch {
      // Not encoded: it is as it stands.
    }
  }
  // As they stand in JSON. The longest first: one may begin with another.
  const words = [...values]
    .filter((value) => value.length >= shortest)
    .map((value) => JSON.stringify(value).slice(1, -1))
    .sort((one, other) => other.length - one.length)
    .map((value) => value.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const known = words.length === 0 ? undefined : new RegExp(words.join("|"), "g");
  return (line) =>
    (known ? line.replaceAll(known, hidden) : line)
      .replaceAll(/(\w:\/\/[^\s:@/"]*:)[^\s@/"]+@/g, `$1${hidden}@`)
      .replaceAll(/\b(Bearer|Basic) [\w.~+/=-]{8,}/gi, `$1 ${hidden}`);
}

/** A shorter one would take words apart that it happens to be a part of. */
const shortest = 4;
