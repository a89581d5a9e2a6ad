import { describeError } from "./errors.ts";
import { parseAddress } from "./ipv4.ts";

/**
 * What a record must look like, in the words of zod, whose schemas can stand wherever a `RecordSchema` is asked for. The
 * node's daemon reads records at every start and runs beside the guests for months: with zod it would have 19 MB more.
 */
export interface RecordSchema<T> {
  safeParse(value: unknown): Reading<T>;
}

export type Reading<T> =
  | { readonly success: true; readonly data: T }
  | { readonly success: false; readonly error: { readonly issues: readonly Issue[] } };

export interface Issue {
  /** From the record down to what is wrong; empty when that is the record itself. */
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

class Schema<T> implements RecordSchema<T> {
  readonly safeParse: (value: unknown) => Reading<T>;

  constructor(safeParse: (value: unknown) => Reading<T>) {
    this.safeParse = safeParse;
  }

  /** What stands for a value that is not there. */
  default(byDefault: T): Schema<T> {
    return new Schema((value) => (value === undefined ? right(byDefault) : this.safeParse(value)));
  }

  /** Asks more of a value. `fault` says what is wrong with it; undefined when nothing is. */
  and(fault: (value: T) => string | undefined): Schema<T> {
    return new Schema((value) => {
      const reading = this.safeParse(value);
      if (!reading.success) return reading;
      const message = fault(reading.data);
      return message === undefined ? reading : wrong(message);
    });
  }
}

class IntegerSchema extends Schema<number> {
  min(least: number): IntegerSchema {
    return this.#and((value) => (value < least ? `is ${value}; it must be at least ${least}` : undefined));
  }

  max(most: number): IntegerSchema {
    return this.#and((value) => (value > most ? `is ${value}; it must be at most ${most}` : undefined));
  }

  positive(): IntegerSchema {
    return this.min(1);
  }

  nonnegative(): IntegerSchema {
    return this.min(0);
  }

  #and(fault: (value: number) => string | undefined): IntegerSchema {
    return new IntegerSchema(this.and(fault).safeParse);
  }
}

/** A field that may be left out, and is then left out of what is read. */
class OptionalSchema<T> extends Schema<T> {
  readonly mayBeAbsent = true;
}

type Fields = Readonly<Record<string, RecordSchema<unknown>>>;
type ReadBy<S> = S extends RecordSchema<infer T> ? T : never;
type OptionalName<F, K extends keyof F> = F[K] extends OptionalSchema<unknown> ? K : never;
type RequiredName<F, K extends keyof F> = F[K] extends OptionalSchema<unknown> ? never : K;
type ObjectOf<F extends Fields> = { readonly [K in keyof F as RequiredName<F, K>]: ReadBy<F[K]> } & {
  readonly [K in keyof F as OptionalName<F, K>]?: ReadBy<F[K]>;
};

export function string(): Schema<string> {
  return typed("a string", (value) => typeof value === "string");
}

export function boolean(): Schema<boolean> {
  return typed("true or false", (value) => typeof value === "boolean");
}

export function int(): IntegerSchema {
  const isWhole = (value: unknown): value is number => Number.isSafeInteger(value);
  return new IntegerSchema(typed("a whole number", isWhole).safeParse);
}

/** RFC 3339 in UTC. */
export function time(): Schema<string> {
  const form = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?Z$/;
  return string().and((value) =>
    form.test(value) && !Number.isNaN(Date.parse(value)) ? undefined : `"${value}" is not a time in UTC`,
  );
}

export function ipv4(): Schema<string> {
  return string().and((value) => faultOf(() => parseAddress(value)));
}

/** An address and a prefix length; the address may lie within the block. */
export function cidrv4(): Schema<string> {
  return string().and((value) => {
    const [, address = "", prefix] = /^([^/]*)\/(\d{1,2})$/.exec(value) ?? [];
    if (prefix === undefined || Number(prefix) > 32) return `"${value}" is not an IPv4 block`;
    return faultOf(() => parseAddress(address));
  });
}

/** @param fault says what is wrong with another value */
export function literal<const T extends string | number>(
  wanted: T,
  fault: (value: unknown) => string = (value) => `is ${shown(value)}, not ${shown(wanted)}`,
): Schema<T> {
  return new Schema((value) => (value === wanted ? right(wanted) : wrong(fault(value))));
}

export function oneOf<const T extends string>(words: readonly T[]): Schema<T> {
  return new Schema((value) => {
    const word = words.find((one) => one === value);
    return word === undefined
      ? wrong(`is ${shown(value)}, not one of ${words.map(shown).join(", ")}`)
      : right(word);
  });
}

export function exactOptional<T>(schema: RecordSchema<T>): OptionalSchema<T> {
  return new OptionalSchema((value) => schema.safeParse(value));
}

export function array<T>(element: RecordSchema<T>): Schema<T[]> {
  return new Schema((value) => {
    if (!Array.isArray(value)) return wrong(`is ${shown(value)}, not a list`);
    const found: T[] = [];
    for (const [index, one] of value.entries()) {
      const reading = element.safeParse(one);
      if (!reading.success) return below(index, reading);
      found.push(reading.data);
    }
    return right(found);
  });
}

/** An object whose every field has the schema, and every name the other one. */
export function record<T>(
  element: RecordSchema<T>,
  key: RecordSchema<string> = string(),
): Schema<Record<string, T>> {
  return new Schema((value) => {
    if (!isObject(value)) return wrong(`is ${shown(value)}, not an object`);
    const found: [string, T][] = [];
    for (const [name, one] of Object.entries(value)) {
      const named = key.safeParse(name);
      const reading = named.success ? element.safeParse(one) : named;
      if (!reading.success) return below(name, reading);
      found.push([name, reading.data]);
    }
    return right(Object.fromEntries(found));
  });
}

/** Fields that it does not name are left out of what is read. */
export function object<F extends Fields>(fields: F): Schema<ObjectOf<F>> {
  return new Schema((value) => readFields(fields, value, false));
}

/** Fields that it does not name are kept: a newer version may have them. */
export function looseObject<F extends Fields>(fields: F): Schema<ObjectOf<F>> {
  return new Schema((value) => readFields(fields, value, true));
}

/** The first that fits; the faults are the last one's. */
export function union<S extends readonly [RecordSchema<unknown>, ...RecordSchema<unknown>[]]>(
  schemas: S,
): Schema<ReadBy<S[number]>> {
  return new Schema((value) => {
    let reading: Reading<unknown> = wrong("is nothing of what it may be");
    for (const schema of schemas) {
      reading = schema.safeParse(value);
      if (reading.success) break;
    }
    return reading as Reading<ReadBy<S[number]>>;
  });
}

export function preprocess<T>(change: (value: unknown) => unknown, schema: RecordSchema<T>): Schema<T> {
  return new Schema((value) => schema.safeParse(change(value)));
}

function readFields<F extends Fields>(fields: F, value: unknown, keepsOthers: boolean): Reading<ObjectOf<F>> {
  if (!isObject(value)) return wrong(`is ${shown(value)}, not an object`);
  const found: [string, unknown][] = [];
  for (const [name, schema] of Object.entries(fields)) {
    const has = Object.hasOwn(value, name);
    if (!has && schema instanceof OptionalSchema) continue;
    const reading = schema.safeParse(has ? value[name] : undefined);
    if (!reading.success) return below(name, has ? reading : wrong("is missing"));
    found.push([name, reading.data]);
  }
  const others = keepsOthers ? Object.entries(value).filter(([name]) => !Object.hasOwn(fields, name)) : [];
  return right(Object.fromEntries([...found, ...others]) as ObjectOf<F>);
}

function typed<T>(what: string, is: (value: unknown) => value is T): Schema<T> {
  return new Schema((value) => (is(value) ? right(value) : wrong(`is ${shown(value)}, not ${what}`)));
}

function right<T>(data: T): Reading<T> {
  return { success: true, data };
}

function wrong(message: string): Reading<never> & { readonly success: false } {
  return { success: false, error: { issues: [{ path: [], message }] } };
}

function below(name: PropertyKey, { error }: Reading<unknown> & { readonly success: false }): Reading<never> {
  return {
    success: false,
    error: { issues: error.issues.map(({ path, message }) => ({ path: [name, ...path], message })) },
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function faultOf(check: () => unknown): string | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    return describeError(error);
  }
}

/** In a message: a long value would hide it. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
