import { writeFile } from "node:fs/promises";

export interface EnterScriptOptions {
  readonly path: string;
  /** In front of `ip netns exec`; empty where another terminal sees the namespaces anyway. */
  readonly enter: string;
  /** Of the namespaces' names. */
  readonly prefix: string;
  /** Of the command `cocoon-net`. */
  readonly cli: string;
}

/** Writes the script that runs a command inside the lab from another terminal, wherever it is started. */
export async function writeEnterScript({ path, enter, prefix, cli }: EnterScriptOptions): Promise<void> {
  const lines = [
    "#!/bin/sh",
    "# sh enter WHERE COMMAND...   WHERE is fabric, a node or a VM. The command cocoon-net is this checkout's.",
    "where=$1",
    "shift",
    `[ "$1" != cocoon-net ] || { shift; set -- ${quoted(process.execPath)} ${quoted(cli)} "$@"; }`,
    `PATH="$PATH:/usr/sbin:/sbin" exec ${enter} ip netns exec "${prefix}-$where" "$@"`,
  ];
  await writeFile(path, `${lines.join("\n")}\n`);
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
