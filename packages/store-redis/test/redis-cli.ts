import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** What an operator sees: the answer of the real redis-cli, without its last line break. Rejects after 3 s without one. */
export async function redisCli(server: { readonly port: number }, ...args: string[]): Promise<string> {
  const command = ["-h", "127.0.0.1", "-p", String(server.port), ...args];
  const { stdout } = await run("redis-cli", command, { timeout: 3_000, killSignal: "SIGKILL" });
  const answer = stdout.replace(/\n$/, "");
  if (/^(ERR|NOPERM|WRONGPASS|NOAUTH|READONLY|CLUSTERDOWN) /.test(answer))
    throw new Error(`redis-cli ${args[0]}: ${answer}`);
  return answer;
}
