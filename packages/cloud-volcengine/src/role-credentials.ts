import type { RoleCredentials } from "./credentials.ts";
import { isRecord, type Json, malformed, text } from "./wire.ts";

/** The vendor does not say how the list of roles looks: lines, a JSON list, or a JSON object are taken. */
export function readRoleName(answer: string): string | undefined {
  let value: unknown = answer.split("\n").map((line) => line.trim());
  try {
    value = JSON.parse(answer);
  } catch {
    // Lines, then.
  }
  return firstName(value);
}

function firstName(value: unknown): string | undefined {
  if (typeof value === "string") return /^[\w.@+=,-]+$/.test(value) ? value : undefined;
  const items = Array.isArray(value) ? value : isRecord(value) ? Object.values(value) : [];
  for (const item of items) {
    const name = firstName(item);
    if (name !== undefined) return name;
  }
  return undefined;
}

/** The message of a failure never quotes the text: it holds the secret. */
export function readRoleCredentials(answer: string): RoleCredentials {
  let record: unknown;
  try {
    record = JSON.parse(answer);
  } catch {
    throw malformed("role credentials");
  }
  if (!isRecord(record)) throw malformed("role credentials");
  return {
    accessKeyID: text(record, "AccessKeyId"),
    secretAccessKey: text(record, "SecretAccessKey"),
    sessionToken: text(record, "SessionToken"),
    lifeMs: lifeOf(record),
  };
}

/** By the service's own clock, where it says what that shows. */
function lifeOf(record: Json): number {
  const until = Date.parse(text(record, "ExpiredTime"));
  const now = typeof record.CurrentTime === "string" ? Date.parse(record.CurrentTime) : Date.now();
  const life = until - (Number.isNaN(now) ? Date.now() : now);
  if (Number.isNaN(life)) throw malformed("ExpiredTime");
  return life;
}
