import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuthError, describeError, InvalidError } from "@cocoon-net/core";
import { describe, expect, it, onTestFinished } from "vitest";
import { CredentialSource, type Credentials } from "../src/credentials.ts";
import { Metadata } from "../src/metadata.ts";
import { apiEndpoint, type Environment, metadataEndpoint } from "../src/settings.ts";
import { impatient } from "./volcengine-world.ts";

const key: Environment = {
  HOME: "/nonexistent",
  VOLCENGINE_ACCESS_KEY_ID: "AK",
  VOLCENGINE_SECRET_ACCESS_KEY: "SK",
  VOLCENGINE_REGION: "cn-beijing",
};

/** On a machine whose metadata service does not answer. */
async function loadCredentials(env: Environment): Promise<Credentials> {
  const metadata = new Metadata("http://127.0.0.1:1", { ...impatient, metadataMs: 20 });
  return await new CredentialSource(env, metadata).current();
}

async function homeWith(config: string): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), "cocoon-net-home-"));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  await mkdir(join(home, ".volcengine"));
  await writeFile(join(home, ".volcengine", "config.json"), config);
  return home;
}

describe("credentials", () => {
  const file = JSON.stringify({ access_key_id: "FAK", secret_access_key: "FSK", region: "cn-shanghai" });

  it("come from the environment, session token included", async () => {
    expect(await loadCredentials({ ...key, VOLCENGINE_SESSION_TOKEN: "T" })).toEqual({
      accessKeyID: "AK",
      secretAccessKey: "SK",
      sessionToken: "T",
      region: "cn-beijing",
      account: "AK",
    });
  });

  it("come from the file when the environment has none", async () => {
    const credentials = await loadCredentials({ HOME: await homeWith(file), VOLCENGINE_SESSION_TOKEN: "T" });
    // A token in the environment is not of the file's key.
    expect(credentials).toEqual({
      accessKeyID: "FAK",
      secretAccessKey: "FSK",
      sessionToken: undefined,
      region: "cn-shanghai",
      account: "FAK",
    });
  });

  it("take the region from the file when only that is missing", async () => {
    const { VOLCENGINE_REGION: _, ...rest } = key;
    expect((await loadCredentials({ ...rest, HOME: await homeWith(file) })).region).toBe("cn-shanghai");
  });

  it.each([
    ["nothing", { HOME: "/nonexistent" }, AuthError, /no Volcengine access key/],
    [
      "no secret",
      { ...key, VOLCENGINE_SECRET_ACCESS_KEY: "" },
      AuthError,
      /VOLCENGINE_SECRET_ACCESS_KEY is not set/,
    ],
    ["no key id", { ...key, VOLCENGINE_ACCESS_KEY_ID: "" }, AuthError, /VOLCENGINE_ACCESS_KEY_ID is not set/],
    ["no region", { ...key, VOLCENGINE_REGION: "" }, InvalidError, /no Volcengine region/],
  ])("%s: one clear line", async (_, env, type, message) => {
    const failure = loadCredentials(env);
    await expect(failure).rejects.toThrow(type);
    await expect(failure).rejects.toThrow(message);
  });

  it("a malformed file is named, its content is not shown", async () => {
    const failure = loadCredentials({ HOME: await homeWith('{"secret_access_key": "TOPSECRET"') });
    const message = await failure.then(String, describeError);
    expect(message).toContain("config.json is not JSON");
    expect(message).not.toContain("TOPSECRET");
  });
});

describe("endpoints", () => {
  it("have defaults and can be overridden", () => {
    expect(apiEndpoint({})).toMatch(/^https:/);
    expect(metadataEndpoint({})).toBe("http://100.96.0.96");
    expect(apiEndpoint({ COCOON_NET_VOLCENGINE_ENDPOINT: "http://127.0.0.1:8080/" })).toBe(
      "http://127.0.0.1:8080",
    );
  });

  it.each(["127.0.0.1:80", "ftp://host", "http://host/path", "http://user:pw@host"])("refuses %s", (text) => {
    expect(() => apiEndpoint({ COCOON_NET_VOLCENGINE_ENDPOINT: text })).toThrow(InvalidError);
  });
});
