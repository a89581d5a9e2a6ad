import {
  type CallCounts,
  GceSimulator,
  type GceSimulatorOptions,
  VolcengineSimulator,
  type VolcengineSimulatorOptions,
} from "@cocoon-net/cloud-testkit";
import { answerParent } from "../child-program.ts";

/** A simulator in a process of its own: what it takes of the processor delays no request of ours. */

export type SimulatedCloud =
  | { readonly platform: "volcengine"; readonly options: VolcengineSimulatorOptions }
  | { readonly platform: "gke"; readonly options: GceSimulatorOptions };

/** An instance of its own, as a program on it sees the cloud. */
export interface SimulatedNode {
  readonly env: Readonly<Record<string, string>>;
}

export type SimulatorAnswers = typeof answers;

let simulator: VolcengineSimulator | GceSimulator | undefined;

const answers = {
  /** With one instance for each node. */
  async start(cloud: SimulatedCloud, nodes: number): Promise<readonly SimulatedNode[]> {
    if (cloud.platform === "gke") return await startGce(cloud.options, nodes);
    return await startVolcengine(cloud.options, nodes);
  },
  callResults(): CallCounts {
    return simulator?.callResults ?? {};
  },
};

answerParent(answers);

const anyPort = { host: "127.0.0.1", port: 0 };

async function startVolcengine(options: VolcengineSimulatorOptions, nodes: number): Promise<SimulatedNode[]> {
  const made = new VolcengineSimulator(options);
  simulator = made;
  const { api } = await made.listen({ api: anyPort });
  return await Promise.all(
    Array.from({ length: nodes }, async () => {
      const { instanceID } = made.addInstance();
      const { metadata } = await made.listen({ metadata: { ...anyPort, instanceID } });
      return {
        env: {
          COCOON_NET_VOLCENGINE_ENDPOINT: api ?? "",
          COCOON_NET_METADATA_ENDPOINT: metadata ?? "",
          VOLCENGINE_ACCESS_KEY_ID: "AKTEST",
          VOLCENGINE_SECRET_ACCESS_KEY: "SKTEST",
          VOLCENGINE_REGION: made.region,
        },
      };
    }),
  );
}

async function startGce(options: GceSimulatorOptions, nodes: number): Promise<SimulatedNode[]> {
  const made = new GceSimulator(options);
  simulator = made;
  const { api } = await made.listen({ api: anyPort });
  return await Promise.all(
    Array.from({ length: nodes }, async () => {
      const { id } = made.addInstance();
      const { metadata } = await made.listen({ metadata: { ...anyPort, instance: id } });
      return {
        env: {
          COCOON_NET_GCE_ENDPOINT: api ?? "",
          COCOON_NET_METADATA_ENDPOINT: metadata ?? "",
          // No key file of whoever runs this.
          CLOUDSDK_CONFIG: "/nonexistent",
        },
      };
    }),
  );
}
