import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort, until } from "@cocoon-net/store-testkit";

/** Certificates in a directory of their own, made by openssl: `NAME.crt` and `NAME.key`. */
class Authority implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "cocoon-net-tls-"));

  path(name: string): string {
    return join(this.#folder, name);
  }

  addCa(name: string): void {
    this.#openssl(
      ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", `/CN=${name}`, "-days", "2"],
      ...["-keyout", `${name}.key`, "-out", `${name}.crt`],
    );
  }

  /** Signed by `ca`, for servers and clients alike: etcd's own gateway uses the server's as a client. */
  issue(name: string, ca: string, commonName: string, subjectAltName: string): void {
    this.#openssl(
      ...["req", "-newkey", "rsa:2048", "-nodes", "-subj", `/CN=${commonName}`],
      ...["-keyout", `${name}.key`, "-out", `${name}.csr`],
    );
    const extensions = `subjectAltName=${subjectAltName}\nextendedKeyUsage=serverAuth,clientAuth\n`;
    writeFileSync(this.path(`${name}.ext`), extensions);
    this.#openssl(
      ...["x509", "-req", "-in", `${name}.csr`, "-CA", `${ca}.crt`, "-CAkey", `${ca}.key`, "-CAcreateserial"],
      ...["-days", "2", "-extfile", `${name}.ext`, "-out", `${name}.crt`],
    );
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #openssl(...args: readonly string[]): void {
    execFileSync("openssl", args, { stdio: "pipe", cwd: this.#folder });
  }
}

/** An etcd that demands client certificates, with the PEM files to reach it. */
export class TlsEtcd implements AsyncDisposable {
  readonly port: number;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Of a CA that has signed nothing here. */
  readonly otherCa: string;
  readonly #ports: { readonly peer: number; readonly metrics: number };
  readonly #authority: Authority;
  #child: ChildProcess | undefined;

  private constructor(authority: Authority, port: number, ports: { peer: number; metrics: number }) {
    this.#authority = authority;
    this.port = port;
    this.#ports = ports;
    [this.ca, this.cert, this.key] = [
      authority.path("client-ca.crt"),
      authority.path("client.crt"),
      authority.path("client.key"),
    ];
    this.otherCa = authority.path("other-ca.crt");
  }

  static async start({ subjectAltName = "IP:127.0.0.1" } = {}): Promise<TlsEtcd> {
    const server = new TlsEtcd(new Authority(), await freePort(), {
      peer: await freePort(),
      metrics: await freePort(),
    });
    try {
      server.addCa("other-ca");
      server.addCa("ca");
      server.giveServer("ca", subjectAltName);
      server.giveClient("ca", "ca");
      await server.restart("ca");
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  addCa(name: string): void {
    this.#authority.addCa(name);
  }

  /** Writes the server's certificate anew, signed by `ca`. */
  giveServer(ca: string, subjectAltName = "IP:127.0.0.1"): void {
    this.#authority.issue("server", ca, "server", subjectAltName);
  }

  /** Writes the client's files anew: the CA that it trusts, and its own certificate, signed by `ca`. */
  giveClient(trusted: string, ca: string, commonName = "client"): void {
    this.#authority.issue("client", ca, commonName, "DNS:client");
    copyFileSync(this.#authority.path(`${trusted}.crt`), this.ca);
  }

  /** It then takes clients whose certificates `ca` has signed. */
  async restart(ca: string): Promise<void> {
    await this.#stop();
    const client = `https://127.0.0.1:${this.port}`;
    const peer = `http://127.0.0.1:${this.#ports.peer}`;
    const metrics = `http://127.0.0.1:${this.#ports.metrics}`;
    const path = (name: string) => this.#authority.path(name);
    this.#child = spawn(
      process.env.ETCD_BIN ?? "etcd",
      [
        ...["--data-dir", path("data"), "--name", "default", "--initial-cluster", `default=${peer}`],
        ...["--listen-client-urls", client, "--advertise-client-urls", client],
        ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
        ...["--cert-file", path("server.crt"), "--key-file", path("server.key")],
        ...["--trusted-ca-file", path(`${ca}.crt`), "--client-cert-auth"],
        ...["--listen-metrics-urls", metrics],
      ],
      { stdio: "ignore" },
    );
    // It listens before it has a leader, and so before it serves.
    await until("etcd with TLS to serve", 20_000, async () => {
      const answer = await fetch(`${metrics}/health`, { signal: AbortSignal.timeout(1_000) });
      return answer.ok && /"health":\s*"?true/.test(await answer.text());
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
    this.#authority[Symbol.dispose]();
  }

  async #stop(): Promise<void> {
    const child = this.#child;
    if (child?.exitCode === null && child.kill("SIGKILL")) await once(child, "exit");
    this.#child = undefined;
  }
}
