import { CocoonError } from "@cocoon-net/core";
import type { DriverPlaces } from "./drivers.ts";
import type { Screen } from "./live-screen.ts";

/** What a command may touch of its process. */
export interface CommandContext {
  /** Aborts on SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  readonly env: NodeJS.ProcessEnv;
  /** Where the config file says that drivers are. */
  readonly drivers?: DriverPlaces | undefined;
  /** The command's result, on stdout. */
  print(line: string): void;
  /** The terminal behind stdout; undefined where that is none. */
  readonly screen: Screen | undefined;
  /** Progress and warnings, on stderr. */
  say(line: string): void;
  /** @throws {CocoonError} when the process may not change the host's network. */
  requireRoot(): void;
}

export function processContext(signal: AbortSignal): CommandContext {
  return {
    signal,
    env: process.env,
    print: (line) => console.log(line),
    screen: process.stdout.isTTY ? process.stdout : undefined,
    say: (line) => console.error(line),
    requireRoot: () => {
      if (process.getuid?.() === 0) return;
      throw new CocoonError("permission", "this changes the host's network and must run as root", {
        hint: "use sudo",
      });
    },
  };
}
