import { InvalidError } from "@cocoon-net/core";

export interface ListenAddress {
  readonly host: string | undefined;
  readonly port: number;
}

/** `host:port` or `:port`. @throws {InvalidError} */
export function parseListenAddress(address: string): ListenAddress {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]*)):(\d{1,5})$/i.exec(address);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) {
    throw new InvalidError(`metrics address "${address}" is not host:port or :port`);
  }
  return { host: match[1] || match[2] || undefined, port };
}
