import { readdir, readFile, rm } from "node:fs/promises";
import { conflist, replaceConflist } from "./cni-conflist.ts";
import { describeRule } from "./forwarding-rules.ts";
import { type CallOptions, type HostNetwork, openHostNetwork } from "./host-network.ts";
import { Iptables, type Rule } from "./iptables.ts";
import { codeOf, kernelError } from "./kernel-errors.ts";

/** Something that `setUpHost` has made, as it can be kept in a file. */
export type HostMark =
  | { readonly kind: "bridge"; readonly name: string }
  | { readonly kind: "address"; readonly address: string; readonly device: string }
  | { readonly kind: "rule"; readonly rule: Rule }
  /** `before`: the text that was replaced; left out where there was no file. */
  | { readonly kind: "conflist"; readonly path: string; readonly bridge: string; readonly before?: string };

export interface UndoHostOptions extends CallOptions {
  /** Used, and left open. Default: one is opened for the call. */
  readonly network?: HostNetwork | undefined;
  /** The iptables program. Default `iptables`. */
  readonly iptables?: string | undefined;
}

/**
 * Takes back what `setUpHost` has made, as far as it is still as it was made: a file that somebody changed stays, and so
 * does a bridge with ports. Safe to repeat.
 *
 * @returns one line per change, and one per thing that stays
 */
export async function undoHost(
  marks: readonly HostMark[],
  options: UndoHostOptions = {},
): Promise<{ readonly changes: readonly string[]; readonly left: readonly string[] }> {
  const { signal } = options;
  await using own = options.network === undefined ? openHostNetwork() : undefined;
  const network = options.network ?? own;
  const iptables = new Iptables(options);
  const changes: string[] = [];
  const left: string[] = [];
  const busy = new Set<string>();
  for (const mark of marks) {
    if (mark.kind === "bridge" && (await portsOf(mark.name)).length > 0) busy.add(mark.name);
  }
  for (const mark of marks.toReversed()) {
    if (mark.kind === "rule") {
      if (!(await iptables.has(mark.rule))) continue;
      await iptables.delete(mark.rule);
      changes.push(`removed ${describeRule(mark.rule)}`);
    } else if (mark.kind === "conflist") {
      const { path, bridge, before } = mark;
      const now = await readFile(path, "utf8").catch(() => undefined);
      if (now === undefined || now === before) continue;
      if (now !== conflist(bridge)) {
        left.push(`${path} stays: it was changed since`);
      } else if (before === undefined) {
        await removeFile(path);
        changes.push(`removed ${path}`);
      } else {
        await replaceConflist(path, before);
        changes.push(`put back ${path} as it was`);
      }
    } else if (mark.kind === "address") {
      const { address, device } = mark;
      // A bridge that stays for its ports keeps working for them.
      if (busy.has(device) || (await network?.getLink({ name: device }, { signal })) === undefined) continue;
      if (await network?.deleteAddress(address, device, { signal })) {
        changes.push(`removed address ${address} from ${device}`);
      }
    } else if (busy.has(mark.name)) {
      left.push(`${mark.name} stays: ${(await portsOf(mark.name)).join(", ")} are plugged into it`);
    } else if (await network?.deleteLink(mark.name, { signal })) {
      changes.push(`removed bridge ${mark.name}`);
    }
  }
  return { changes, left };
}

async function portsOf(bridge: string): Promise<string[]> {
  return await readdir(`/sys/class/net/${bridge}/brif`).catch(() => []);
}

async function removeFile(path: string): Promise<void> {
  try {
    await rm(path);
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    throw kernelError(`remove ${path}`, code);
  }
}
