import { InvalidError } from "@cocoon-net/core";

/**
 * Checks a link name by the kernel's rule (dev_valid_name: 1–15 bytes, no slash, colon or blank, not `.` or `..`), and
 * refuses what iptables would read as something else: a leading `-` or `!`, a trailing `+`.
 *
 * @throws {InvalidError}
 */
export function checkInterfaceName(name: string): string {
  const valid =
    /^[^\s/:\0]+$/.test(name) &&
    Buffer.byteLength(name) <= 15 &&
    name !== "." &&
    name !== ".." &&
    !/^[-!]|\+$/.test(name);
  if (!valid) throw new InvalidError(`"${name}" is not a network interface name like eth1`);
  return name;
}
