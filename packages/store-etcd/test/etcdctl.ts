import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Runs etcdctl against one server and returns what it prints. */
export async function etcdctl(
  server: { readonly port: number },
  ...args: readonly string[]
): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(
      "etcdctl",
      ["--endpoints", `127.0.0.1:${server.port}`, ...args],
      {
        env: { ...process.env, ETCDCTL_API: "3" },
        timeout: 20_000,
      },
    );
    return stdout;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      throw new Error("etcdctl is not installed: apt-get install etcd-client", { cause: error });
    }
    throw error;
  }
}

/** Compacts all history up to now. */
export async function compact(server: { readonly port: number }): Promise<void> {
  const status = await etcdctl(server, "endpoint", "status", "--write-out=json");
  await etcdctl(server, "compact", /"revision":(\d+)/.exec(status)?.[1] ?? "");
}
