import { connect as connectTcp } from "node:net";
import { connect as connectTls } from "node:tls";
import { InvalidError, UnavailableError } from "@cocoon-net/core";
import { type Endpoint, formatEndpoint, type ResolvedEtcdOptions } from "./options.ts";

const probeMs = 1_000;

/**
 * Tells a wrong configuration from an outage, as gRPC calls both unavailable. Only for the opening: what
 * worked once and fails later is the server's trouble, and can be mended while we wait.
 */
export async function diagnoseOpening(error: unknown, options: ResolvedEtcdOptions): Promise<unknown> {
  if (!(error instanceof UnavailableError)) return error;
  if (/certificate|issuer|altname/i.test(error.message) && !/alert/.test(error.message)) {
    return new InvalidError(error.message, {
      hint: "give the CA that signed the server's certificate as ca=, and the host as the certificate names it",
      cause: error,
    });
  }
  if (/TLS: .*alert/.test(error.message)) {
    return new InvalidError(error.message, {
      hint: "this etcd wants a client certificate that its CA signed: give it as cert= and key=",
      cause: error,
    });
  }
  // Somebody has taken the connection and ended it: the wrong protocol does that at once.
  if (!/Failed to connect|socket disconnected|ECONNRESET/.test(error.message)) return error;
  for (const endpoint of options.endpoints) {
    const mismatch = await findSchemeMismatch(endpoint, options.tls !== undefined);
    if (mismatch !== undefined) {
      return new InvalidError(`open on etcd ${formatEndpoint(endpoint)}: ${mismatch.found}`, {
        hint: mismatch.hint,
        cause: error,
      });
    }
  }
  return error;
}

async function findSchemeMismatch(
  endpoint: Endpoint,
  tls: boolean,
): Promise<{ found: string; hint: string } | undefined> {
  if (tls) {
    if (!(await speaksPlainHttp(endpoint))) return undefined;
    return { found: "the server there speaks without TLS", hint: "write etcd:// instead of etcds://" };
  }
  if (!(await speaksTls(endpoint))) return undefined;
  return { found: "the server there speaks TLS", hint: "write etcds:// instead of etcd://, with ca=" };
}

/** Any TLS answer counts, also one that refuses us. */
function speaksTls({ host, port }: Endpoint): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTls({ host, port, rejectUnauthorized: false, timeout: probeMs });
    const settle = (answer: boolean) => {
      resolve(answer);
      socket.destroy();
    };
    socket.on("secureConnect", () => settle(true));
    socket.on("timeout", () => settle(false));
    socket.on("error", (error) => settle(/alert/.test(error.message)));
    socket.on("close", () => settle(false));
  });
}

function speaksPlainHttp({ host, port }: Endpoint): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTcp({ host, port, timeout: probeMs });
    const settle = (answer: boolean) => {
      resolve(answer);
      socket.destroy();
    };
    socket.on("connect", () => socket.write(`GET /version HTTP/1.1\r\nHost: ${host}\r\n\r\n`));
    socket.on("data", (data) => settle(data.toString("latin1").startsWith("HTTP/1.1 200")));
    socket.on("timeout", () => settle(false));
    socket.on("error", () => settle(false));
    socket.on("close", () => settle(false));
  });
}
