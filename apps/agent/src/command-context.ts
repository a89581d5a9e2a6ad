import { CocoonError } from "@cocoon-net/core";
import type { CloudConfig } from "./cloud-config.ts";
import type { DhcpConfig } from "./dhcp-settings.ts";
import type { DriverPlaces } from "./drivers.ts";
import type { Screen } from "./live-screen.ts";

/** What a command may touch of its process. */
export interface CommandContext {
  /** Aborts on SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  readonly env: NodeJS.ProcessEnv;
  /** Where the config file says that drivers are. */
  readonly drivers?: DriverPlaces | undefined;
  /** What the config file says of the DHCP server. */
  readonly dhcp?: DhcpConfig | undefined;
  /** What the config file says of how clouds are asked. */
  readonly cloud?: CloudConfig | undefined;
  /**
   * Reads the config file again; undefined where there is none. Changes nothing by itself.
   * @throws {InvalidError} naming file, line and key of what is wrong
   */
  readonly reload?: (() => Promise<Reloaded>) | undefined;
  /** Calls the listener at each SIGHUP, until disposed. */
  readonly onHangup?: ((listener: () => void) => Disposable) | undefined;
  /** The command's result, on stdout. */
  print(line: string): void;
  /** The terminal behind stdout; undefined where that is none. */
  readonly screen: Screen | undefined;
  /** Progress and warnings, on stderr. */
  say(line: string): void;
  /** Asks whoever sits at the terminal; undefined where nobody does. */
  readonly ask?: ((question: string) => Promise<string>) | undefined;
  /** @throws {CocoonError} when the process may not change the host's network. */
  requireRoot(): void;
}

/** What the config file says now. */
export interface Reloaded {
  readonly dhcp: DhcpConfig | undefined;
  readonly logLevel: string | undefined;
  /** Keys whose values are others than at the start. */
  readonly changed: readonly string[];
}

export function processContext(signal: AbortSignal): CommandContext {
  return {
    signal,
    env: process.env,
    print: (line) => console.log(line),
    screen: process.stdout.isTTY ? process.stdout : undefined,
    say: (line) => console.error(line),
    onHangup: (listener) => {
      process.on("SIGHUP", listener);
      return { [Symbol.dispose]: () => void process.off("SIGHUP", listener) };
    },
    ask:
      process.stdin.isTTY && process.stderr.isTTY ? (question) => askOnTerminal(question, signal) : undefined,
    requireRoot: () => {
      if (process.getuid?.() === 0) return;
      throw new CocoonError("permission", "this changes the host's network and must run as root", {
        hint: "use sudo",
      });
    },
  };
}

async function askOnTerminal(question: string, signal: AbortSignal): Promise<string> {
  const { createInterface } = await import("node:readline/promises");
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await terminal.question(question, { signal });
  } finally {
    terminal.close();
  }
}
