import { GceSimulator, type GceSimulatorOptions } from "@cocoon-net/cloud-testkit";
import { onTestFinished } from "vitest";

/** For `expect.poll`, on a busy machine. */
export const patience = { timeout: 10_000 };

export interface GceAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

/** Raw requests to a simulator, as a client that knows nothing of it would send them. */
export class GceClient {
  readonly simulator: GceSimulator;
  readonly api: string;
  token: string | undefined = "secret";

  private constructor(simulator: GceSimulator, api: string) {
    this.simulator = simulator;
    this.api = api;
  }

  /** With quick operations, unless the options say otherwise; closed when the test ends. */
  static async open(options: GceSimulatorOptions = {}): Promise<GceClient> {
    const simulator = new GceSimulator({
      tokens: ["secret"],
      secondaryRanges: { pods: "10.4.0.0/16" },
      ...options,
      delays: { pendingMs: 1, operationMs: 1, instanceMs: 1, ...options.delays },
    });
    onTestFinished(() => simulator[Symbol.asyncDispose]());
    const { api } = await simulator.listen({ api: { host: "127.0.0.1", port: 0 } });
    return new GceClient(simulator, api ?? "");
  }

  async call(method: string, path: string, body?: unknown): Promise<GceAnswer> {
    const response = await fetch(`${this.api}/compute/v1/projects/${path}`, {
      method,
      headers: this.token === undefined ? {} : { authorization: `Bearer ${this.token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text.startsWith("{") ? JSON.parse(text) : text,
    };
  }

  async fingerprint(name: string): Promise<string> {
    const { body } = await this.call("GET", `demo-project/zones/us-central1-a/instances/${name}`);
    return /"fingerprint":"([^"]+)"/.exec(JSON.stringify(body))?.[1] ?? "";
  }

  /** Asks for aliases; `ranges` undefined leaves the list out. */
  async setAliases(
    name: string,
    ranges: readonly string[] | undefined,
    options: { readonly fingerprint?: string; readonly requestId?: string } = {},
  ): Promise<GceAnswer> {
    const aliasIpRanges = ranges?.map((text) => {
      const [rangeName, cidr] = text.includes(":") ? text.split(":") : [undefined, text];
      return { ipCidrRange: cidr, ...(rangeName === undefined ? {} : { subnetworkRangeName: rangeName }) };
    });
    const fingerprint = options.fingerprint ?? (await this.fingerprint(name));
    const query = options.requestId === undefined ? "" : `&requestId=${options.requestId}`;
    return await this.call(
      "PATCH",
      `demo-project/zones/us-central1-a/instances/${name}/updateNetworkInterface?networkInterface=nic0${query}`,
      { fingerprint, ...(aliasIpRanges === undefined ? {} : { aliasIpRanges }) },
    );
  }

  /** The answer of `wait` for the operation that an answer has started. */
  async wait({ body }: GceAnswer): Promise<GceAnswer> {
    const name = /"name":"(operation-[^"]+)"/.exec(JSON.stringify(body))?.[1] ?? "none";
    const place = JSON.stringify(body).includes('"region":') ? "regions/us-central1" : "zones/us-central1-a";
    return await this.call("POST", `demo-project/${place}/operations/${name}/wait`, "");
  }

  /** `pods:10.4.1.0/24`, as the state truly is. */
  aliases(name: string): string[] {
    const { instances } = this.simulator.describeState();
    const found = instances.find((instance) => instance.name === name);
    return (found?.nic.aliases ?? []).map(({ cidr, rangeName }) => `${rangeName ?? "primary"}:${cidr}`);
  }
}

export function reason(text: string): unknown {
  return { error: { errors: [{ reason: text }] } };
}
