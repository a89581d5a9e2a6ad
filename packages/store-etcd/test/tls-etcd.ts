import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort, until } from "@cocoon-net/store-testkit";

/** An etcd that demands client certificates, with the PEM files to reach it. */
export interface TlsEtcd extends AsyncDisposable {
  readonly port: number;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Of a CA that has signed nothing here. */
  readonly otherCa: string;
}

export async function startTlsEtcd({ subjectAltName = "IP:127.0.0.1" } = {}): Promise<TlsEtcd> {
  const folder = mkdtempSync(join(tmpdir(), "cocoon-net-tls-"));
  const path = (name: string) => join(folder, name);
  const openssl = (...args: readonly string[]) =>
    execFileSync("openssl", args, { stdio: "pipe", cwd: folder });
  for (const name of ["ca", "other-ca"]) {
    openssl(
      ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", `/CN=${name}`, "-days", "2"],
      ...["-keyout", `${name}.key`, "-out", `${name}.crt`],
    );
  }
  for (const name of ["server", "client"]) {
    openssl(
      ...["req", "-newkey", "rsa:2048", "-nodes", "-subj", `/CN=${name}`],
      ...["-keyout", `${name}.key`, "-out", `${name}.csr`],
    );
    const names = name === "server" ? subjectAltName : "DNS:client";
    // etcd's own gateway connects to it with the server's certificate as a client.
    writeFileSync(path(`${name}.ext`), `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`);
    openssl(
      ...["x509", "-req", "-in", `${name}.csr`, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"],
      ...["-days", "2", "-extfile", `${name}.ext`, "-out", `${name}.crt`],
    );
  }
  const port = await freePort();
  const client = `https://127.0.0.1:${port}`;
  const peer = `http://127.0.0.1:${await freePort()}`;
  const child = spawn(
    process.env.ETCD_BIN ?? "etcd",
    [
      ...["--data-dir", path("data"), "--name", "default", "--initial-cluster", `default=${peer}`],
      ...["--listen-client-urls", client, "--advertise-client-urls", client],
      ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
      ...["--cert-file", path("server.crt"), "--key-file", path("server.key")],
      ...["--trusted-ca-file", path("ca.crt"), "--client-cert-auth"],
    ],
    { stdio: "ignore" },
  );
  const stop = async () => {
    if (child.exitCode === null && child.kill("SIGKILL")) await once(child, "exit");
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await until("etcd with TLS to listen", 20_000, async () => {
      const socket = connect(port, "127.0.0.1");
      try {
        await once(socket, "connect");
      } finally {
        socket.destroy();
      }
      return true;
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    port,
    ca: path("ca.crt"),
    cert: path("client.crt"),
    key: path("client.key"),
    otherCa: path("other-ca.crt"),
    [Symbol.asyncDispose]: stop,
  };
}
