import { randomBytes } from "node:crypto";
import type { HttpRequest } from "../http-listener.ts";
import { GceFault } from "./gce-fault.ts";
import type { GceProject } from "./project.ts";

const anyScope = [
  "https://www.googleapis.com/auth/cloud-platform",
  "https://www.googleapis.com/auth/compute",
] as const;

/** Bearer tokens: the fixed ones, and those that the metadata server has issued to service accounts. */
export class GceAccess {
  readonly #project: GceProject;
  readonly #fixed: ReadonlySet<string>;
  readonly #denied: ReadonlySet<string>;
  readonly #issued = new Map<string, { readonly scopes: readonly string[]; readonly until: number }>();

  /** @param denied permissions that nobody has */
  constructor(project: GceProject, fixed: readonly string[], denied: readonly string[]) {
    this.#project = project;
    this.#fixed = new Set(fixed);
    this.#denied = new Set(denied);
  }

  issue(scopes: readonly string[], lifetimeMs: number): string {
    const token = `ya29.sim-${randomBytes(18).toString("base64url")}`;
    this.#issued.set(token, { scopes, until: this.#project.clock.now() + lifetimeMs });
    return token;
  }

  /** Ends every issued token before its time. */
  revokeAll(): void {
    this.#issued.clear();
  }

  /** @throws authError, insufficientPermissions or forbidden (facts §1.6) */
  check({ headers }: HttpRequest, permission: string, path: string): void {
    const header = headers.authorization;
    const token = typeof header === "string" ? /^Bearer (\S+)$/.exec(header)?.[1] : undefined;
    const issued = token === undefined ? undefined : this.#issued.get(token);
    const fixed = token !== undefined && this.#fixed.has(token);
    if (!fixed && (issued === undefined || issued.until <= this.#project.clock.now())) {
      throw new GceFault(
        "authError",
        "Request had invalid authentication credentials. Expected OAuth 2 access token.",
      );
    }
    if (!fixed && !anyScope.some((scope) => issued?.scopes.includes(scope))) {
      throw new GceFault("insufficientPermissions", "Request had insufficient authentication scopes.");
    }
    if (this.#denied.has(permission)) {
      throw new GceFault("forbidden", `Required '${permission}' permission for '${path}'`);
    }
  }
}
