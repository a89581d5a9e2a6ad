import { type CallRate, CloudBudget, type CloudBudgetOptions, InvalidError } from "@cocoon-net/core";
import { z } from "zod";

/** `cloud` of the config file. */
export interface CloudConfig {
  /** Rates by platform and class, in place of the drivers' own. */
  readonly budget: NonNullable<CloudBudgetOptions["rates"]>;
}

const rate: z.ZodType<Partial<CallRate>> = z.strictObject({
  perSecond: z.exactOptional(z.number().positive()),
  burst: z.exactOptional(z.number().min(1)),
  perMinute: z.exactOptional(z.int().positive()),
});

/** Those of the built-in platforms are known; a third party's are its own. */
const ownClasses = z.strictObject({ read: z.exactOptional(rate), write: z.exactOptional(rate) });

const schema = z.strictObject({
  budget: z
    .object({ volcengine: z.exactOptional(ownClasses), gke: z.exactOptional(ownClasses) })
    .catchall(z.record(z.string(), rate))
    .default({}),
});

/** For everything that this process asks of clouds: made once. */
export function cloudBudget(config: CloudConfig | undefined): CloudBudget {
  return new CloudBudget({ rates: config?.budget });
}

/** @param where file and line, for messages @throws {InvalidError} */
export function parseCloudConfig(value: unknown, where: string): CloudConfig {
  const result = schema.safeParse(value ?? {});
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = ["cloud", ...(issue?.path ?? [])].join(".");
  throw new InvalidError(`${where}: "${path}" is wrong: ${issue?.message}`);
}
