import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { CocoonError, DisposeStack, InvalidError } from "@cocoon-net/core";
import { checkInterfaceName } from "./interface-name.ts";
import { codeOf, kernelError } from "./kernel-errors.ts";

export const DEFAULT_CONFLIST_PATH: string = "/etc/cni/net.d/30-cocoon-dhcp.conflist";

/** The CNI network that plugs a VM into the bridge; the address comes from DHCP, so there is no IPAM. */
export function conflist(bridge: string): string {
  const network = {
    cniVersion: "1.0.0",
    name: "cocoon-dhcp",
    plugins: [
      {
        type: "bridge",
        bridge: checkInterfaceName(bridge),
        isGateway: false,
        ipMasq: false,
        portIsolation: true,
        macspoofchk: true,
        ipam: {},
      },
    ],
  };
  return `${JSON.stringify(network, null, 2)}\n`;
}

/**
 * Writes the CNI network file unless it already has this content. Container runtimes watch the directory, so they see
 * the old file or the new one, never a part.
 *
 * @param onReplace told what was there, before it goes; undefined where there was no file
 * @returns whether it had to be written
 */
export async function writeConflist(
  bridge: string,
  path: string = DEFAULT_CONFLIST_PATH,
  onReplace: (before: string | undefined) => Promise<void> = async () => undefined,
): Promise<boolean> {
  const content = conflist(bridge);
  let before: string | undefined;
  try {
    before = await readIfThere(path);
  } catch (error) {
    throw conflistError(path, error);
  }
  if (before === content) return false;
  await onReplace(before);
  await replaceConflist(path, content);
  return true;
}

export async function replaceConflist(path: string, content: string): Promise<void> {
  // CNI reads .conf, .conflist and .json only.
  const temporary = `${path}.tmp`;
  try {
    const found = await stat(path).catch(() => undefined);
    if (found && !found.isFile()) throw new InvalidError(`${path} is not a regular file: it is left alone`);
    await mkdir(dirname(path), { recursive: true });
    await using cleanup = new DisposeStack();
    cleanup.defer(() => rm(temporary, { force: true }));
    await using file = await open(temporary, "w", 0o644);
    await file.writeFile(content);
    await file.sync();
    await rename(temporary, path);
  } catch (error) {
    throw conflistError(path, error);
  }
}

function conflistError(path: string, error: unknown): unknown {
  const code = codeOf(error);
  if (code === undefined || error instanceof CocoonError) return error;
  return kernelError(`write CNI network ${path}`, code);
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
