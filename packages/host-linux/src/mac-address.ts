import { InvalidError } from "@cocoon-net/core";

/** Parses `52:54:00:ab:cd:ef`, in either case. @throws {InvalidError} */
export function parseMAC(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new InvalidError(`"${text}" is not a MAC address like 52:54:00:ab:cd:ef`);
  }
  return Buffer.from(text.replaceAll(":", ""), "hex");
}

/** Lowercase with colons. */
export function formatMAC(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
