import { InvalidError, parseAddress } from "@cocoon-net/core";
import { parseOptionSettings, type Rate } from "@cocoon-net/dhcp";
import { z } from "zod";
import { type DhcpConfig, present } from "./dhcp-settings.ts";
import { parseDuration } from "./duration.ts";

const duration = z.string().transform((text, context) => {
  try {
    return parseDuration(text);
  } catch {
    context.addIssue({ code: "custom", message: `"${text}" is not a duration like 30s, 5m or 24h` });
    return z.NEVER;
  }
});
const leaseTime = duration.refine((ms) => ms >= 1_000, "a lease must last at least 1s");
const rate: z.ZodType<Rate> = z.strictObject({ perSecond: z.number().positive(), burst: z.int().positive() });

const schema = z.strictObject({
  leaseTime: z.optional(leaseTime),
  coolDown: z.optional(duration),
  decline: z.optional(duration),
  rapidCommit: z.optional(z.boolean()),
  probe: z.optional(z.boolean()),
  leasesPerPort: z.optional(z.int().positive()),
  options: z.optional(z.unknown()),
  reservations: z.optional(
    z.array(
      z.strictObject({
        mac: z.optional(
          z.string().regex(/^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/i, "not a MAC like 52:54:00:ab:cd:ef"),
        ),
        clientID: z.optional(z.string()),
        address: z.optional(z.ipv4()),
        leaseTime: z.optional(leaseTime),
        options: z.optional(z.unknown()),
      }),
    ),
  ),
  limits: z.optional(
    z.strictObject({
      perClient: z.optional(rate),
      perPort: z.optional(rate),
      total: z.optional(rate),
      relays: z.optional(z.array(z.ipv4())),
    }),
  ),
});

/** @param where file and line, for messages @throws {InvalidError} */
export function parseDhcpConfig(value: unknown, where: string): DhcpConfig {
  const result = schema.safeParse(value ?? {});
  if (!result.success) {
    const [issue] = result.error.issues;
    const path = ["dhcp", ...(issue?.path ?? [])].join(".");
    throw new InvalidError(`${where}: "${path}" is wrong: ${issue?.message}`);
  }
  const { leaseTime, coolDown, decline, options, reservations, limits, ...rest } = result.data;
  return {
    at: where,
    ...rest,
    leaseMs: leaseTime,
    coolDownMs: coolDown,
    declineMs: decline,
    options: options === undefined ? undefined : parseOptionSettings(options, `${where}: dhcp.options`),
    reservations: reservations?.map((one, index) => ({
      ...present({ mac: one.mac, clientID: one.clientID, leaseMs: one.leaseTime }),
      ...(one.address === undefined ? {} : { address: parseAddress(one.address) }),
      ...(one.options === undefined
        ? {}
        : { options: parseOptionSettings(one.options, `${where}: dhcp.reservations.${index}.options`) }),
    })),
    limits: limits && present(limits),
  };
}
