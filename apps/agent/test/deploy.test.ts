import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { parseConfig } from "../src/config-file.ts";
import { applySettings } from "../src/config-settings.ts";
import { renderMetrics } from "../src/metrics.ts";
import { createProgram } from "../src/program.ts";

const deploy = (path: string): string => fileURLToPath(new URL(`../../../deploy/${path}`, import.meta.url));
const text = (path: string): Promise<string> => readFile(deploy(path), "utf8");

// What these manifests use of Kubernetes' API, and nothing else: a field with a slip in its name is refused.
const name = z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/);
const labels = z.record(z.string().regex(/^([a-z0-9.-]+\/)?[\w.-]{1,63}$/), z.string().max(63));
const quantity = z.string().regex(/^\d+(m|Ki|Mi|Gi)?$/);
const metadata = z.strictObject({
  name,
  namespace: z.literal("cocoon-net").optional(),
  labels: labels.optional(),
});
const capability = z.enum(["ALL", "NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"]);
const probe = z.strictObject({
  httpGet: z.strictObject({ path: z.enum(["/healthz", "/readyz"]), port: z.literal("metrics") }),
  periodSeconds: z.int().positive().optional(),
  timeoutSeconds: z.int().positive().optional(),
  failureThreshold: z.int().positive().optional(),
});
const container = z.strictObject({
  name,
  image: z.literal("cocoon-net"),
  args: z.array(z.string()).min(1),
  env: z.array(
    z.strictObject({
      name: z.string().regex(/^[A-Z_]+$/),
      valueFrom: z.union([
        z.strictObject({
          fieldRef: z.strictObject({ fieldPath: z.enum(["spec.nodeName", "metadata.name"]) }),
        }),
        z.strictObject({
          secretKeyRef: z.strictObject({
            name: z.literal("cocoon-net"),
            key: z.string().regex(/^[\w.-]+$/),
            optional: z.boolean().optional(),
          }),
        }),
      ]),
    }),
  ),
  ports: z
    .array(
      z.strictObject({
        name,
        containerPort: z.int().positive(),
        // Optional to Kubernetes; the agent's is checked below.
        hostPort: z.int().positive().optional(),
        protocol: z.literal("TCP"),
      }),
    )
    .optional(),
  startupProbe: probe.optional(),
  livenessProbe: probe.optional(),
  readinessProbe: probe.optional(),
  securityContext: z.strictObject({
    privileged: z.boolean().optional(),
    allowPrivilegeEscalation: z.literal(false).optional(),
    readOnlyRootFilesystem: z.literal(true).optional(),
    capabilities: z
      .strictObject({ drop: z.tuple([z.literal("ALL")]), add: z.array(capability).optional() })
      .optional(),
  }),
  resources: z.strictObject({
    requests: z.strictObject({ cpu: quantity, memory: quantity }),
    limits: z.strictObject({ memory: quantity }),
  }),
  volumeMounts: z
    .array(
      z.strictObject({ name, mountPath: z.string().startsWith("/"), readOnly: z.literal(true).optional() }),
    )
    .optional(),
});
const volume = z.strictObject({
  name,
  hostPath: z
    .strictObject({ path: z.string(), type: z.enum(["DirectoryOrCreate", "FileOrCreate"]) })
    .optional(),
  emptyDir: z.strictObject({ medium: z.literal("Memory") }).optional(),
  configMap: z.strictObject({ name: z.literal("cocoon-net") }).optional(),
});
const selector = z.strictObject({ matchLabels: labels });
const pod = z.strictObject({
  nodeSelector: labels.optional(),
  tolerations: z.array(z.strictObject({ operator: z.literal("Exists") })).optional(),
  priorityClassName: z.literal("system-node-critical").optional(),
  hostNetwork: z.literal(true).optional(),
  dnsPolicy: z.literal("ClusterFirstWithHostNet").optional(),
  automountServiceAccountToken: z.literal(false),
  enableServiceLinks: z.literal(false),
  terminationGracePeriodSeconds: z.int(),
  securityContext: z
    .strictObject({
      runAsNonRoot: z.literal(true),
      runAsUser: z.int().positive(),
      runAsGroup: z.int().positive(),
      seccompProfile: z.strictObject({ type: z.literal("RuntimeDefault") }),
    })
    .optional(),
  affinity: z
    .strictObject({
      podAntiAffinity: z.strictObject({
        preferredDuringSchedulingIgnoredDuringExecution: z.array(
          z.strictObject({
            weight: z.int().min(1).max(100),
            podAffinityTerm: z.strictObject({ topologyKey: z.string(), labelSelector: selector }),
          }),
        ),
      }),
    })
    .optional(),
  initContainers: z.array(container).optional(),
  containers: z.array(container).length(1),
  volumes: z.array(volume).optional(),
});
const template = z.strictObject({
  metadata: z.strictObject({ labels, annotations: labels.optional() }),
  spec: pod,
});
const apps = z.literal("apps/v1");
const object = z.discriminatedUnion("kind", [
  z.strictObject({ apiVersion: z.literal("v1"), kind: z.literal("Namespace"), metadata }),
  z.strictObject({
    apiVersion: z.literal("v1"),
    kind: z.literal("ConfigMap"),
    metadata,
    data: z.record(z.string(), z.string()),
  }),
  z.strictObject({
    apiVersion: z.literal("v1"),
    kind: z.literal("Secret"),
    metadata,
    type: z.literal("Opaque"),
    stringData: z.record(z.string(), z.string()),
  }),
  z.strictObject({
    apiVersion: apps,
    kind: z.literal("DaemonSet"),
    metadata,
    spec: z.strictObject({
      selector,
      updateStrategy: z.strictObject({
        type: z.literal("RollingUpdate"),
        rollingUpdate: z.strictObject({ maxUnavailable: z.int().positive() }),
      }),
      template,
    }),
  }),
  z.strictObject({
    apiVersion: apps,
    kind: z.literal("Deployment"),
    metadata,
    spec: z.strictObject({ replicas: z.int().positive(), selector, template }),
  }),
]);
const kustomization = z.strictObject({
  apiVersion: z.literal("kustomize.config.k8s.io/v1beta1"),
  kind: z.literal("Kustomization"),
  namespace: z.string(),
  resources: z.array(z.string()),
});

/** What `kubectl kustomize` makes of a base that has resources and a namespace and nothing else. */
async function render(): Promise<z.infer<typeof object>[]> {
  const { namespace, resources } = kustomization.parse(parse(await text("kubernetes/kustomization.yaml")));
  const files = (await readdir(deploy("kubernetes"))).filter((file) => file.endsWith(".yaml"));
  expect([...resources, "kustomization.yaml"].toSorted()).toEqual(files.toSorted());
  return await Promise.all(
    resources.map(async (file) => {
      const found = parse(await text(`kubernetes/${file}`)) as { kind: string; metadata: object };
      const scope = found.kind === "Namespace" ? {} : { namespace };
      return object.parse({ ...found, metadata: { ...found.metadata, ...scope } });
    }),
  );
}

const context = {
  signal: new AbortController().signal,
  env: {},
  screen: undefined,
  print: () => undefined,
  say: () => undefined,
  requireRoot: () => undefined,
};

describe("deploy/kubernetes", () => {
  it("is what Kubernetes takes, and fits together", async () => {
    const objects = await render();
    const workloads = objects.filter((one) => one.kind === "DaemonSet" || one.kind === "Deployment");
    expect(workloads.map(({ kind }) => kind)).toEqual(["DaemonSet", "Deployment"]);
    for (const { spec } of workloads) {
      expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels);
      const volumes = (spec.template.spec.volumes ?? []).map((volume) => volume.name);
      for (const { volumeMounts = [], env } of [
        ...(spec.template.spec.initContainers ?? []),
        ...spec.template.spec.containers,
      ]) {
        expect(volumes).toEqual(expect.arrayContaining(volumeMounts.map((mount) => mount.name)));
        expect(env.find(({ name }) => name === "COCOON_NET_STORE")?.valueFrom).toEqual({
          secretKeyRef: { name: "cocoon-net", key: "store" },
        });
      }
    }
    const [agent, controller] = workloads.map(({ spec }) => spec.template.spec);
    expect(agent?.hostNetwork).toBe(true);
    expect(agent?.containers[0]?.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"], add: ["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"] },
    });
    expect(agent?.containers[0]?.ports?.[0]?.hostPort).toBe(9092);
    expect(agent?.containers[0]?.livenessProbe?.httpGet.path).toBe("/healthz");
    expect(agent?.containers[0]?.readinessProbe?.httpGet.path).toBe("/readyz");
    expect(controller?.containers[0]?.securityContext.capabilities).toEqual({ drop: ["ALL"] });
  });

  it("runs commands that there are, with a config file that they take", async () => {
    const objects = await render();
    const settings = objects.find((one) => one.kind === "ConfigMap")?.data["config.yaml"] ?? "";
    applySettings(createProgram(context), parseConfig(settings, "config.yaml").settings);
    for (const one of objects) {
      if (one.kind !== "DaemonSet" && one.kind !== "Deployment") continue;
      const { initContainers = [], containers } = one.spec.template.spec;
      for (const { args } of [...initContainers, ...containers]) {
        const words = args[0] === "--config" ? args.slice(2) : args;
        const command = createProgram(context).commands.find((known) => known.name() === words[0]);
        const options = command?.options.map(({ long }) => long);
        expect(options).toEqual(expect.arrayContaining(words.filter((word) => word.startsWith("--"))));
      }
    }
  });

  it("would refuse a slip", async () => {
    const [first] = (await render()).filter((one) => one.kind === "DaemonSet");
    expect(object.safeParse({ ...first, spec: { ...first?.spec, tempalte: {} } }).success).toBe(false);
  });
});

describe("deploy/grafana and deploy/prometheus", () => {
  const zero = { free: 0, offered: 0, leased: 0, cooling: 0, declined: 0, reserved: 0, outside: 0, pool: 0 };
  const exported = renderMetrics({
    grants: () => ({ ok: 0, failed: 0 }),
    available: () => 0,
    active: () => 0,
    server: () => ({
      grants: { ok: 0, failed: 0 },
      pool: zero,
      received: { discover: 1 },
      sent: { ack: 1 },
      dropped: { malformed: 1 },
      journal: {
        syncs: 0,
        records: 0,
        bytes: 0,
        failing: undefined,
        compactions: 0,
        compactionFailing: undefined,
      },
    }),
    waiting: () => 0,
    short: () => false,
    link: () => ({ state: "owned", mirrorLag: 0 }),
  });
  const metrics = new Set([...exported.matchAll(/^# TYPE (\S+)/gm)].map(([, metric]) => metric));
  /** Names and labels of the metrics in an expression. */
  const used = (expression: string): string[] => expression.match(/cocoon_net_\w+/g) ?? [];

  it("use metrics and labels that the agent has, and the dashboard shows each of them", async () => {
    const rules = parse(await text("prometheus/alerts.yaml")) as {
      groups: { rules: { alert: string; expr: string; annotations: { summary: string } }[] }[];
    };
    const alerts = rules.groups.flatMap((group) => group.rules);
    const dashboard = JSON.parse(await text("grafana/dashboard.json")) as {
      panels: { id: number; title: string; targets: { expr: string }[] }[];
      templating: { list: { query: string }[] };
    };
    const shown = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
    const expressions = [...alerts.map(({ expr }) => expr), ...shown];
    expect(alerts.length).toBeGreaterThan(5);
    for (const expression of expressions) {
      expect(used(expression).length, expression).toBeGreaterThan(0);
      for (const metric of used(expression)) expect(metrics, expression).toContain(metric);
      for (const [, label = ""] of expression.matchAll(/by \((\w+)\)/g)) {
        expect(exported).toMatch(new RegExp(`^${used(expression)[0]}\\{${label}="`, "m"));
      }
    }
    expect(new Set(shown.flatMap(used))).toEqual(metrics);
    for (const { query } of dashboard.templating.list)
      for (const metric of used(query)) expect(metrics).toContain(metric);
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
  });
});
