import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** What an operator sees: the answer of the real redis-cli, without its last line break. */
export async function redisCli(server: { readonly port: number }, ...args: string[]): Promise<string> {
  const { stdout } = await run("redis-cli", ["-h", "127.0.0.1", "-p", String(server.port), ...args]);
  const answer = stdout.replace(/\n$/, "");
  if (/^(ERR|NOPERM|WRONGPASS|NOAUTH|READONLY) /.test(answer))
    throw new Error(`redis-cli ${args[0]}: ${answer}`);
  return answer;
}
