import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InvalidError } from "@cocoon-net/core";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { parseCloudConfig } from "../src/cloud-config.ts";
import { parseConfig } from "../src/config-file.ts";
import { type DriverPlaces, openCloud, openStore } from "../src/drivers.ts";
import { runCommand } from "./support/run-command.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "config-file-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));
afterEach(() => {
  vi.unstubAllEnvs();
});

/** A driver that tells where it was opened by refusing. */
const refusing = (name: string): string =>
  `export default { schemes: [], open(url) { throw new Error("${name} opened " + (url.label ?? url)); } };\n`;

async function place(path: string, text: string): Promise<string> {
  const file = join(directory, path);
  await mkdir(join(file, ".."), { recursive: true });
  await writeFile(file, text);
  return file;
}

async function placePackage(at: string, name: string): Promise<void> {
  await place(`${at}/node_modules/${name}/index.js`, refusing(name));
  const manifest = { name, version: "1.0.0", type: "module", exports: { ".": { default: "./index.js" } } };
  await place(`${at}/node_modules/${name}/package.json`, JSON.stringify(manifest));
}

describe("the config file", () => {
  it("has a store and drivers, or nothing", () => {
    const text = "# ours\nstore: etcd://h:2379/p\ndrivers:\n  acme: ./acme.js\n  redis+x: some-package\n";
    expect(parseConfig(text, "/etc/c/config.yaml")).toEqual({
      path: "/etc/c/config.yaml",
      settings: new Map([["store", { at: "/etc/c/config.yaml:2", value: "etcd://h:2379/p" }]]),
      drivers: {
        named: new Map([
          ["acme", "./acme.js"],
          ["redis+x", "some-package"],
        ]),
        directory: "/etc/c",
        file: "/etc/c/config.yaml",
      },
      dhcp: undefined,
      cloud: undefined,
    });
    for (const empty of ["", "# nothing\n", "drivers:\n", "store: redis://h\ndrivers: {}\n"]) {
      expect(parseConfig(empty, "/c.yaml").drivers.named.size).toBe(0);
    }
  });

  it("is refused with file, line and key for what it does not know", () => {
    const bad: Record<string, RegExp> = {
      "drivers:\n  a: x\n  b: [1]\n": /^\/c\.yaml:3: "drivers\.b" is not a text$/,
      "store:\n": /^\/c\.yaml:1: "store" has no value$/,
      "daemon:\n  dropCidr: [a, [b]]\n": /^\/c\.yaml:2: "daemon.dropCidr" has no value$/,
      "- a\n": /^\/c\.yaml:1: the file is not a mapping/,
      "drivers: x\n": /^\/c\.yaml:1: "drivers" is not a mapping/,
      "store: a\nstore: b\n": /^\/c\.yaml:2: is not YAML: /,
      "store: [\n": /^\/c\.yaml:\d: is not YAML: [^\n]*$/,
    };
    for (const [text, message] of Object.entries(bad)) {
      expect(() => parseConfig(text, "/c.yaml"), text).toThrow(message);
      expect(() => parseConfig(text, "/c.yaml"), text).toThrow(InvalidError);
    }
  });
});

describe("`cloud`", () => {
  it("gives the budget its rates, and names what is wrong", () => {
    const text = "cloud: { budget: { volcengine: { write: { perSecond: 5, burst: 5 } } } }\n";
    const { cloud } = parseConfig(text, "/c.yaml");
    expect(parseCloudConfig(cloud?.value, cloud?.at ?? "")).toEqual({
      budget: { volcengine: { write: { perSecond: 5, burst: 5 } } },
    });
    for (const [budget, message] of [
      [{ gke: { read: { perSecond: 0 } } }, /^\/c:1: "cloud\.budget\.gke\.read\.perSecond" is wrong: /],
      [{ gke: { read: { perHour: 7 } } }, /^\/c:1: "cloud\.budget\.gke\.read" is wrong: .*perHour/],
      [7, /^\/c:1: "cloud\.budget" is wrong: /],
    ] as const) {
      expect(() => parseCloudConfig({ budget }, "/c:1")).toThrow(message);
    }
  });
});

describe("--config", () => {
  const which = async (args: readonly string[]): Promise<string | undefined> => {
    const { failure } = await runCommand(args);
    return /(?:opened |no cluster in )(\S+)/.exec(failure ?? "")?.[1] ?? failure;
  };

  it("names the store, below environment and flags", async () => {
    await place("order/acme.js", refusing("acme"));
    const config = await place("order/c.yaml", "store: acme://file\ndrivers: { acme: ./acme.js }\n");
    const nodes = ["cluster", "nodes"];
    expect(await which(["--config", config, ...nodes])).toBe("acme://file");
    expect(await which([...nodes, "--config", config])).toBe("acme://file");
    vi.stubEnv("COCOON_NET_CONFIG", config);
    expect(await which(nodes)).toBe("acme://file");
    vi.stubEnv("COCOON_NET_STORE", "acme://env");
    expect(await which(nodes)).toBe("acme://env");
    expect(await which([...nodes, "--store", "acme://flag"])).toBe("acme://flag");
    vi.stubEnv("COCOON_NET_STORE", undefined);
    vi.stubEnv("COCOON_NET_CONFIG", undefined);
    expect(await which(nodes)).toMatch(/required option '--store <url>' not specified/);
  });

  it("gives options their values, for all commands or for one", async () => {
    const file = await place(
      "values/c.yaml",
      [
        "store: redis://:secret@h/p",
        "stateDir: /all",
        "daemon:",
        "  stateDir: /daemon",
        "  sessionTtl: 1m",
        "  skipIptables: true",
        "adopt:",
        "  dropCidr: [10.0.0.0/8, 192.168.0.0/16]",
        "  poolSize: 20",
        "cluster:",
        "  init: { nodePrefix: 26 }",
      ].join("\n"),
    );
    const explain = async (...command: string[]): Promise<string> => {
      const { out, failure } = await runCommand(["--config", file, "config", "explain", ...command]);
      expect(failure).toBeUndefined();
      return out.join("\n").replaceAll(/ +/g, " ");
    };
    const daemon = await explain("daemon");
    expect(daemon).toContain(`stateDir /daemon ${file}:4\n`);
    expect(daemon).toContain(`sessionTtl 60000 ${file}:5\n`);
    expect(daemon).toContain(`skipIptables true ${file}:6\n`);
    expect(daemon).toContain("metricsAddr :9092 default\n");
    expect(daemon).toMatch(/^store redis:.*h\/p .*c\.yaml:1$/m);
    expect(daemon).not.toContain("secret");
    vi.stubEnv("COCOON_NET_METRICS_ADDR", ":1");
    expect(await explain("daemon")).toContain("metricsAddr :1 $COCOON_NET_METRICS_ADDR\n");
    const adopt = await explain("adopt");
    expect(adopt).toContain(`dropCidr 10.0.0.0/8, 192.168.0.0/16 ${file}:8\n`);
    expect(adopt).toContain(`poolSize 20 ${file}:9\n`);
    expect(adopt).toContain(`stateDir /all ${file}:2\n`);
    expect(await explain("cluster", "init")).toContain(`nodePrefix 26 ${file}:11`);
  });

  it("is refused with file, line and key for what no command takes", async () => {
    const bad: Record<string, RegExp> = {
      "store: redis://h\nstoer: x\n": /c\.yaml:2: unknown key "stoer"/,
      "daemon:\n  poolSize: 3\n": /c\.yaml:2: unknown key "poolSize"/,
      "daemons: {}\n": /c\.yaml:1: unknown key "daemons"/,
      "\nstore: 7\n": /c\.yaml:2: "store" is wrong: store URL "7" is not of the form/,
      "store: {a: b}\n": /c\.yaml:1: "store" takes a value, not a mapping/,
      "store: [redis://h]\n": /c\.yaml:1: "store" takes one value, not a list/,
      "poolSize: many\n": /c\.yaml:1: "poolSize" is wrong: "many" is not a whole number/,
      "sessionTtl: 5\n": /c\.yaml:1: "sessionTtl" is wrong: "5" is not a duration/,
      "metricsAddr: 9092\n": /c\.yaml:1: "metricsAddr" is wrong: metrics address "9092" is not host:port/,
      "dropCidr: [10.0.0.0/8, x]\n": /c\.yaml:1: "dropCidr" is wrong: CIDR "x" is not/,
      "cloud: { budget: { gke: { writes: {} } } }\n": /c\.yaml:1: "cloud\.budget\.gke" is wrong: .*"writes"/,
      "dhcp: { leaseTime: 0s }\n": /c\.yaml:1: "dhcp\.leaseTime" is wrong: a lease must last at least 1s/,
      "dhcp: { reservations: [{ mac: zz }] }\n": /"dhcp\.reservations\.0\.mac" is wrong: not a MAC like/,
      "skipIptables: yes please\n": /c\.yaml:1: "skipIptables" is not true or false/,
    };
    for (const [text, message] of Object.entries(bad)) {
      const file = await place("bad/c.yaml", text);
      const { failure } = await runCommand(["--config", file, "config", "schema"]);
      expect(failure, text).toMatch(message);
    }
  });

  it("has the schema that is published", async () => {
    const { out } = await runCommand(["config", "schema"]);
    const published = await readFile(new URL("../config.schema.json", import.meta.url), "utf8");
    expect(`${out.join("\n")}\n`).toBe(published);
  });

  it("is refused in one line when it cannot be read", async () => {
    expect(await which(["--config", "/nowhere/c.yaml", "cluster", "nodes"])).toMatch(
      /^config file \/nowhere\/c\.yaml cannot be read: ENOENT[^\n]*$/,
    );
  });
});

describe("drivers", () => {
  const places = (at: string, named: Readonly<Record<string, string>> = {}): DriverPlaces => ({
    named: new Map(Object.entries(named)),
    directory: join(directory, at),
    file: join(directory, at, "c.yaml"),
  });
  const opened = async (scheme: string, drivers: DriverPlaces): Promise<string> => {
    const opening = openStore(`${scheme}://x`, { drivers });
    return String(
      await opening.then(
        () => "opened",
        (error: Error) => error.message,
      ),
    );
  };

  it("are looked up: the entry, then @cocoon-net/store-NAME, then cocoon-net-store-NAME", async () => {
    await placePackage("both", "@cocoon-net/store-acme");
    await placePackage("both", "cocoon-net-store-acme");
    await placePackage("both", "elsewhere");
    await placePackage("one", "cocoon-net-store-acme");
    await placePackage("one", "cocoon-net-cloud-acme");
    await place("both/own/driver.js", refusing("own"));
    expect(await opened("acme", places("both"))).toBe("@cocoon-net/store-acme opened acme://x");
    expect(await opened("acme", places("one"))).toBe("cocoon-net-store-acme opened acme://x");
    expect(await opened("acme", places("both", { acme: "elsewhere" }))).toBe("elsewhere opened acme://x");
    expect(await opened("acme", places("both", { acme: "./own/driver.js" }))).toBe("own opened acme://x");
    // Also in place of one that is built in.
    expect(await opened("memory", places("both", { memory: "elsewhere" }))).toBe(
      "elsewhere opened memory://x",
    );
    await expect(openCloud("acme", places("one"))).rejects.toThrow("cocoon-net-cloud-acme opened acme");
  });

  it("that are not there are refused, with where was looked", async () => {
    await place("bad/empty.js", "export const nothing = 1;\n");
    await place("bad/broken.js", "throw new Error('broken inside');\n");
    const at = join(directory, "bad");
    expect(await opened("acme", places("bad"))).toBe(
      `unknown store scheme "acme:": it is not built in (etcd, etcds, redis, rediss, redis+sentinel, redis+cluster, memory), and ${at} has no package @cocoon-net/store-acme or cocoon-net-store-acme`,
    );
    expect(await opened("acme", places("bad", { acme: "./none.js" }))).toBe(
      `the driver "./none.js" of store scheme "acme:" is not to be found from ${at}`,
    );
    expect(await opened("acme", places("bad", { acme: "./empty.js" }))).toMatch(
      /empty\.js has no driver as its default export/,
    );
    expect(await opened("acme", places("bad", { acme: "./broken.js" }))).toMatch(
      /broken\.js cannot be loaded: broken inside$/,
    );
    await expect(openCloud("acme", places("bad"))).rejects.toThrow(
      /^unknown platform "acme": it is not built in \(volcengine/,
    );
  });
});
