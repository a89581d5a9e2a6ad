import { execFile } from "node:child_process";
import { CocoonError, NotFoundError, UnavailableError } from "@cocoon-net/core";
import { codeOf } from "./kernel-errors.ts";

export interface IptablesOptions {
  /** The program: `iptables`, `iptables-nft`, `iptables-legacy` or a path. Default `iptables`. */
  readonly iptables?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Deadline of one call, waiting for the xtables lock included. Default 20,000. */
  readonly timeoutMs?: number | undefined;
}

/** A rule as iptables takes it: the chain, then matches and target. */
export interface Rule {
  readonly table: "filter" | "nat";
  readonly chain: string;
  readonly spec: readonly string[];
}

const ABSENT = 1;
const LISTING_LIMIT = 256 * 2 ** 20;

/** Runs the iptables program, without a shell. */
export class Iptables {
  readonly #program: string;
  readonly #signal: AbortSignal | undefined;
  readonly #timeoutMs: number;

  constructor(options: IptablesOptions = {}) {
    this.#program = options.iptables ?? "iptables";
    this.#signal = options.signal;
    this.#timeoutMs = options.timeoutMs ?? 20_000;
  }

  /** Whether the chain holds this rule. The comparison is iptables' own, not one of texts. */
  async has({ table, chain, spec }: Rule): Promise<boolean> {
    return (await this.#run(["-t", table, "-C", chain, ...spec], [ABSENT])).status === 0;
  }

  /** @returns whether the rule was missing */
  async ensure(rule: Rule, place: "first" | "last"): Promise<boolean> {
    if (await this.has(rule)) return false;
    const command = place === "first" ? ["-I", rule.chain, "1"] : ["-A", rule.chain];
    await this.#run(["-t", rule.table, ...command, ...rule.spec]);
    return true;
  }

  /** Removes the first rule that is the same. */
  async delete({ table, chain, spec }: Rule): Promise<void> {
    await this.#run(["-t", table, "-D", chain, ...spec]);
  }

  /** The rules of a chain, in order. */
  async list(table: Rule["table"], chain: string): Promise<Rule[]> {
    const { stdout } = await this.#run(["-t", table, "-S", chain]);
    return stdout
      .split("\n")
      .map(splitWords)
      .filter(([command, name]) => command === "-A" && name === chain)
      .map(([, , ...spec]) => ({ table, chain, spec }));
  }

  #run(
    args: readonly string[],
    accepted: readonly number[] = [],
  ): Promise<{ status: number; stdout: string }> {
    // iptables waits for the lock that it shares with every other user; a little less than the deadline, so that it is the
    // one that says so.
    const lockSeconds = Math.max(1, Math.floor(this.#timeoutMs / 2_000));
    const what = [this.#program, ...args].join(" ");
    return new Promise((resolve, reject) => {
      const options = {
        encoding: "utf8",
        timeout: this.#timeoutMs,
        killSignal: "SIGKILL",
        maxBuffer: LISTING_LIMIT,
        env: { ...process.env, LC_ALL: "C" },
        signal: this.#signal,
      } as const;
      execFile(this.#program, ["-w", `${lockSeconds}`, ...args], options, (error, stdout, stderr) => {
        const status = error === null ? 0 : error.code;
        if (error === null) resolve({ status: 0, stdout });
        else if (typeof status === "number" && accepted.includes(status)) resolve({ status, stdout });
        else reject(this.#failure(what, error, stderr));
      });
    });
  }

  #failure(what: string, error: Error & { killed?: boolean | undefined }, stderr: string): Error {
    if (this.#signal?.aborted) return error;
    const code = codeOf(error);
    if (code === "ENOENT") {
      return new NotFoundError(`${what}: ${this.#program} is not installed`, {
        hint: "install iptables, or skip it with --skip-iptables",
        cause: error,
      });
    }
    if (error.killed) {
      return new UnavailableError(`${what}: no end after ${this.#timeoutMs} ms`, {
        outcome: "unknown",
        cause: error,
      });
    }
    const said = stderr.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    return new CocoonError("kernel", `${what}: ${said[0] ?? error.message}`, { cause: error });
  }
}

/** Splits a line of `iptables -S` into words. iptables puts words with blanks in double quotes and escapes with `\`. */
export function splitWords(line: string): string[] {
  const words = line.match(/(?:"(?:\\.|[^"\\])*"|[^\s"])+/g) ?? [];
  return words.map((word) =>
    word.replaceAll(/"((?:\\.|[^"\\])*)"/g, (_, inner: string) => inner.replaceAll(/\\(.)/g, "$1")),
  );
}
