import { gatewayFault, refuse } from "./api-fault.ts";
import type { Tags } from "./state.ts";

export interface TagFilter {
  readonly key: string;
  readonly values: readonly string[];
}

/**
 * The query of one request. Lists are flattened to 1-based `Name.1`, `Name.2` (facts §1.2); a repeated key, an
 * index gap and a parameter that the action does not have are refused, so that a client's mistake shows.
 */
export class RequestParameters {
  readonly #values: ReadonlyMap<string, string>;
  readonly #seen = new Set<string>();

  /** @param values without Action and Version. */
  constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
  }

  optional(name: string): string | undefined {
    this.#seen.add(name);
    const value = this.#values.get(name);
    // An empty value is what a client sends that forgot to drop an undefined one (facts §1.2).
    if (value === "") throw refuse("InvalidParameter", `The parameter ${name} is empty.`);
    return value;
  }

  required(name: string): string {
    const value = this.optional(name);
    if (value === undefined) throw gatewayFault("MissingParameter", `The parameter ${name} is missing.`);
    return value;
  }

  integer(name: string, min: number, max: number): number | undefined {
    const text = this.optional(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw refuse(
      "InvalidParameter",
      `The parameter ${name} is ${text}, not an integer from ${min} to ${max}.`,
    );
  }

  boolean(name: string): boolean | undefined {
    const text = this.optional(name);
    if (text === undefined) return undefined;
    if (text === "true" || text === "false") return text === "true";
    throw refuse("InvalidParameter", `The parameter ${name} is ${text}, not true or false.`);
  }

  list(name: string, max = 100): string[] {
    const values: string[] = [];
    for (let value = this.optional(`${name}.1`); value !== undefined; ) {
      values.push(value);
      value = this.optional(`${name}.${values.length + 1}`);
    }
    if (values.length > max) {
      throw refuse(
        "InvalidParameter",
        `The parameter ${name} has ${values.length} values, ${max} are allowed.`,
      );
    }
    return values;
  }

  /** @param max tags that one resource may have */
  tags(max: number): Tags {
    const tags: Record<string, string> = {};
    for (let index = 1; ; index++) {
      const key = this.optional(`Tags.${index}.Key`);
      const value = this.optional(`Tags.${index}.Value`);
      if (key === undefined) return tags;
      // The code is not in the facts; that there is a limit is (§3.2).
      if (index > max) throw refuse("QuotaExceeded.Tag", `A resource has at most ${max} tags.`);
      // Prefixes of the platform (facts §3.2).
      if (/^(volc|sys):/.test(key)) throw refuse("InvalidParameter", `The tag key ${key} is reserved.`);
      tags[key] = value ?? "";
    }
  }

  /** At most 10 keys, all of which must match (facts §2.5). */
  tagFilters(): TagFilter[] {
    const filters: TagFilter[] = [];
    for (let index = 1; ; index++) {
      const key = this.optional(`TagFilters.${index}.Key`);
      if (key === undefined) break;
      filters.push({ key, values: this.list(`TagFilters.${index}.Values`) });
    }
    if (filters.length > 10) throw refuse("InvalidParameter", "More than 10 tag filters.");
    return filters;
  }

  /** Call after everything was read. */
  refuseOthers(): void {
    for (const name of this.#values.keys()) {
      if (!this.#seen.has(name)) throw refuse("InvalidParameter", `The parameter ${name} is not known here.`);
    }
  }
}
