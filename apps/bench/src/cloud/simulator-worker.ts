import {
  GceSimulator,
  type GceSimulatorOptions,
  VolcengineSimulator,
  type VolcengineSimulatorOptions,
} from "@cocoon-net/cloud-testkit";
import type { Asked, SimulatedNode, Told } from "./simulator-process.ts";

/** A simulator in a process of its own: what it takes of the processor delays no request of ours. */

process.on("message", (asked: Asked) => {
  answer(asked).then(
    (told) => process.send?.(told),
    (error: unknown) => process.send?.({ failed: String(error) } satisfies Told),
  );
});
process.on("disconnect", () => process.exit());

let simulator: VolcengineSimulator | GceSimulator | undefined;

const anyPort = { host: "127.0.0.1", port: 0 };

async function answer(asked: Asked): Promise<Told> {
  if ("results" in asked) return { results: simulator?.callResults ?? {} };
  if (asked.platform === "gke") return { nodes: await startGce(asked.options, asked.nodes) };
  return { nodes: await startVolcengine(asked.options, asked.nodes) };
}

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
