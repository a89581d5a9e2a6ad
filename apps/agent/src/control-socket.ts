import { chmod, lstat, rm } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { connect } from "node:net";
import { dirname } from "node:path";
import {
  CocoonError,
  ConflictError,
  describeError,
  InvalidError,
  type LeaseRecord,
  UnavailableError,
} from "@cocoon-net/core";
import { peerOf } from "@cocoon-net/host-linux";
import { createServer } from "./http-server.ts";
import type { Logger } from "./log.ts";
import { makeDirectory } from "./state-directory.ts";

/** What the VM engine tells of its VMs. */
export interface VmBook {
  /** The VM exists and has this MAC. Idempotent; resolves when it is on disk. */
  assignVm(vmID: string, mac: string): Promise<void>;
  /** The VM is gone: its leases end at once. */
  removeVm(vmID: string): Promise<void>;
  /** The VM that has this MAC is gone, whichever it was. Idempotent. */
  removeMac(mac: string): Promise<void>;
  leases(): ReadonlyMap<string, LeaseRecord>;
}

/**
 * HTTP on a Unix socket for the VM engine: `PUT /vms/ID {"mac": "…"}`, `DELETE /vms/ID`, `GET /leases`, and
 * `DELETE /v1/leases/MAC` (204), which is all that the program before this one has. Only root and the user that the daemon
 * runs as may speak: by the socket's mode (0600), and by whom the kernel names as the peer.
 *
 * @throws {ConflictError} when another process serves it; {@link CocoonError} when it cannot be made
 */
export async function serveControlSocket(path: string, book: VmBook, log: Logger): Promise<AsyncDisposable> {
  if (await isServed(path)) {
    throw new ConflictError(`another process serves ${path}`, {
      hint: "choose another with --control-socket",
    });
  }
  const found = await lstat(path).catch(() => undefined);
  if (found && !found.isSocket()) {
    throw new InvalidError(`${path} is not a socket: it is left alone`, {
      hint: "name another --control-socket",
    });
  }
  if (found) await rm(path, { force: true });
  await makeDirectory(dirname(path)).catch((cause: unknown) => unwritable(path, cause));
  const server = createServer((request, response) => {
    const peer = peerOf(request.socket);
    if (peer === undefined || (peer.uid !== 0 && peer.uid !== process.getuid?.())) {
      log.warn({ peer }, "refused to speak to a process of another user");
      return answer(response, 403, { error: "this socket is for root" });
    }
    handle(request, book).then(
      ([status, body]) => answer(response, status, body),
      (error: unknown) => answer(response, statusOf(error), { error: describeError(error) }),
    );
  });
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    await chmod(path, 0o600);
  } catch (cause) {
    unwritable(path, cause);
  } finally {
    process.umask(mask);
  }
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

function unwritable(path: string, cause: unknown): never {
  const problem = `the control socket ${path} cannot be made: ${describeError(cause)}`;
  throw new CocoonError("unwritable", problem, { cause });
}

/** `URIError`: the path is not percent-encoded as it should be. */
function statusOf(error: unknown): number {
  if (error instanceof InvalidError || error instanceof URIError) return 400;
  return error instanceof UnavailableError ? 503 : 500;
}

/** Without a body: nothing is sent. */
type Answer = readonly [status: number, body?: unknown];

async function handle(request: IncomingMessage, book: VmBook): Promise<Answer> {
  const [, kind = "", name = "", ...more] = (request.url ?? "").split("/").map(decodeURIComponent);
  if (kind === "v1" && name === "leases" && request.method === "DELETE") {
    await book.removeMac(checkMac(more.join("/"), "the path must end with the MAC"));
    return [204];
  }
  if (kind === "leases" && name === "" && request.method === "GET") {
    return [200, [...book.leases()].map(([ip, lease]) => ({ ip, ...lease }))];
  }
  if (kind !== "vms" || name === "") {
    return [404, { error: "there are PUT and DELETE /vms/ID, GET /leases, DELETE /v1/leases/MAC" }];
  }
  if (request.method === "PUT") {
    await book.assignVm(name, checkMac(macOf(await bodyOf(request)), 'the body must be {"mac": MAC}'));
    return [200, {}];
  }
  if (request.method === "DELETE") {
    await book.removeVm(name);
    return [200, {}];
  }
  return [405, { error: `${request.method} is neither PUT nor DELETE` }];
}

const longestBody = 4_096;

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) {
    text += String(chunk);
    if (text.length > longestBody) throw new InvalidError(`the body is longer than ${longestBody} bytes`);
  }
  return text;
}

function macOf(body: string): unknown {
  try {
    return (JSON.parse(body) as { mac?: unknown } | null)?.mac;
  } catch {
    return undefined;
  }
}

/** In lower case. @throws {InvalidError} */
function checkMac(mac: unknown, rule: string): string {
  if (typeof mac === "string" && /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) return mac.toLowerCase();
  throw new InvalidError(`${rule} like 52:54:00:ab:cd:ef, not ${JSON.stringify(mac)?.slice(0, 60)}`);
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  if (body === undefined) response.writeHead(status).end();
  else response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
}

/** A file that a crash left answers nobody. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
