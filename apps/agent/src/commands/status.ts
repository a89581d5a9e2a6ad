import type { CommandContext } from "../command-context.ts";
import { renderFields } from "../output.ts";
import { StateDirectory } from "../state-directory.ts";

export async function status(flags: { readonly stateDir: string }, context: CommandContext): Promise<void> {
  const state = new StateDirectory(flags.stateDir);
  const pool = await state.readPool();
  const registration = await state.readRegistration();
  const fields: [string, string][] = [
    ["Platform", pool.platform],
    ["Node", pool.nodeName],
    ["Subnet", pool.subnet],
    ["Gateway", pool.gateway],
    ["IPs", String(pool.ips.length)],
    ["Updated", pool.updatedAt],
  ];
  if (pool.eniIDs && pool.eniIDs.length > 0) fields.push(["ENIs", pool.eniIDs.join(", ")]);
  if (pool.subnetID !== undefined) fields.push(["SubnetID", pool.subnetID]);
  if (pool.aliasRangeName !== undefined) fields.push(["Aliases", `${pool.aliasRangeName}:${pool.subnet}`]);
  if (registration) {
    fields.push(["Store", registration.store], ["UID", registration.uid]);
    fields.push([
      "Epoch",
      registration.epoch === undefined ? "not registered yet" : String(registration.epoch),
    ]);
  }
  if (registration?.lostAt !== undefined) {
    fields.push(["Lost", `${registration.lostAt}; run init or adopt again to join with a new subnet`]);
  }
  if (registration?.leaseSource !== undefined && registration.leaseSource !== "builtin") {
    fields.push([
      "Leases",
      `${registration.leaseSource}; that server grants, and cannot be stopped from here if the subnet is lost`,
    ]);
  }
  context.print(renderFields(fields));
}
